import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: { outDir: "../out/viewer", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: false },
  worker: { format: "es" },
});
