/** The page: opens files by dialog, by drag and drop, or by `?src=`, and shows what the worker sends. */
import type { FromWorker, Opened, Samples, ToWorker } from "./messages.js";

function element<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const chooser = element("file", HTMLInputElement);
const status = element("status", HTMLElement);
const progress = element("progress", HTMLProgressElement);
const result = element("result", HTMLElement);
const canvas = element("picture", HTMLCanvasElement);
const save = element("save", HTMLButtonElement);
const facts = element("facts", HTMLElement);
const channels = element("channels", HTMLElement);

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
let job = 0;
let name = "picture";

function say(text: string, isError = false): void {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function draw(target: HTMLCanvasElement, { width, height, rgba }: Samples): void {
  target.width = width;
  target.height = height;
  target.getContext("2d")!.putImageData(new ImageData(rgba, width, height), 0, 0);
}

function showOpened(opened: Opened): void {
  draw(canvas, opened.preview);
  canvas.style.aspectRatio = `${opened.width} / ${opened.height}`;
  canvas.style.width = `${opened.width}px`;
  canvas.setAttribute("aria-label", `${name}, a preview`);
  facts.replaceChildren(
    ...opened.facts.flatMap(([term, value]) => {
      const [title, text] = [document.createElement("dt"), document.createElement("dd")];
      title.textContent = term;
      text.textContent = value;
      return [title, text];
    }),
  );
  channels.replaceChildren(
    ...opened.channels.map(({ picture, caption }) => {
      const [figure, pixels, text] = [
        document.createElement("figure"),
        document.createElement("canvas"),
        document.createElement("figcaption"),
      ];
      draw(pixels, picture);
      pixels.setAttribute("role", "img");
      pixels.setAttribute("aria-label", caption);
      text.textContent = caption;
      figure.append(pixels, text);
      return figure;
    }),
  );
  result.hidden = false;
  progress.hidden = false;
  progress.removeAttribute("value");
  say("This is the preview. The picture is being computed …");
}

worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
  if (data.job !== job) return;
  switch (data.kind) {
    case "opened":
      showOpened(data);
      break;
    case "progress":
      progress.max = data.of;
      progress.value = data.done;
      break;
    case "finished":
      draw(canvas, data.picture);
      canvas.setAttribute("aria-label", name);
      progress.hidden = true;
      save.disabled = false;
      say(`${name}, decoded in ${(data.milliseconds / 1000).toFixed(1)} s`);
      break;
    case "failed":
      progress.hidden = true;
      say(`${name}: ${data.message}`, true);
      break;
  }
});
worker.addEventListener("error", () => {
  progress.hidden = true;
  say("The decoder of this page cannot be loaded.", true);
});

function open(file: ArrayBuffer, called: string): void {
  name = called;
  result.hidden = true;
  save.disabled = true;
  say(`Opening ${called} …`);
  const message: ToWorker = { job: ++job, file };
  worker.postMessage(message, [file]);
}

async function openFile(file: File | undefined): Promise<void> {
  if (file !== undefined) open(await file.arrayBuffer(), file.name);
}

async function openSource(source: string): Promise<void> {
  const url = new URL(source, location.href);
  const called = decodeURIComponent(url.pathname.split("/").at(-1) ?? "picture");
  if (url.origin !== location.origin) {
    say(`${called} is of another site, and this page loads nothing from elsewhere`, true);
    return;
  }
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`status ${response.status}`);
    open(await response.arrayBuffer(), called);
  } catch (error) {
    say(`${called} cannot be loaded (${error instanceof Error ? error.message : String(error)})`, true);
  }
}

chooser.addEventListener("change", () => void openFile(chooser.files?.[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  void openFile(event.dataTransfer?.files[0]);
});
save.addEventListener("click", () => {
  canvas.toBlob((blob) => {
    if (blob === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name.replace(/\.sdc$/i, "") + ".png";
    link.click();
    URL.revokeObjectURL(link.href);
  });
});

const source = new URLSearchParams(location.search).get("src");
if (source !== null) void openSource(source);
