/** Copies the package's networks into `public/`, from where the page loads them. */
import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const viewer = dirname(dirname(fileURLToPath(import.meta.url)));
const [package_, target] = [join(viewer, "..", "pillow_sdc"), join(viewer, "public")];

mkdirSync(target, { recursive: true });
copyFileSync(join(package_, "format", "context", "networks", "1.npz"), join(target, "context.npz"));
copyFileSync(join(package_, "models", "compact", "weights", "decoder.onnx"), join(target, "decoder.onnx"));
