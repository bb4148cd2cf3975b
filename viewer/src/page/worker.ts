/** Decodes files beside the page: latents first, which give a preview, and then the picture, by the network. */
import { PIXELS_PER_LATENT } from "../format/container.js";
import { decode, type NetworkArrays, readNetwork, SdcError } from "../format/index.js";
import { DecoderNetwork } from "../network/decoder.js";
import { preview, type PreviewWeights } from "../preview.js";
import { emptySamples, extremes, greySamples, writeSamples } from "../samples.js";
import { factsOf } from "./facts.js";
import type { FromWorker, Message, Samples, ToWorker } from "./messages.js";

/** Pixels of a picture that a page shows, at most: four bytes each, and as many in the canvas. */
const MAX_PIXELS = 100e6;

/** The folder of the page: this script lies in one within it. */
const ASSETS = new URL("..", location.href);

let latest = 0;
let contextNetwork: Promise<NetworkArrays> | undefined;
let previewWeights: Promise<PreviewWeights> | undefined;
let decoderNetwork: Promise<DecoderNetwork> | undefined;

async function fetched(name: string): Promise<Response> {
  const response = await fetch(new URL(name, ASSETS));
  if (!response.ok) throw new Error(`${name} of this page cannot be loaded (${response.status})`);
  return response;
}

async function show(job: number, file: Uint8Array): Promise<void> {
  const send = (message: Message): void => postMessage({ job, ...message } satisfies FromWorker);
  const start = performance.now();
  contextNetwork ??= fetched("context.npz").then(async (response) =>
    readNetwork(new Uint8Array(await response.arrayBuffer())),
  );
  previewWeights ??= fetched("preview.json").then((response) => response.json() as Promise<PreviewWeights>);
  const decoded = decode(file, await contextNetwork, MAX_PIXELS);
  const { header, latents, alphaPlane } = decoded;
  const { rows, columns } = latents;
  const small = emptySamples(
    columns,
    rows,
    alphaPlane && reduced(alphaPlane, header.width, header.height, rows, columns),
  );
  writeSamples(preview(latents, await previewWeights), rows, columns, small, columns, rows, 0, header.mode);
  const channels = [0, 1, 2, 3].map((number) => {
    const channel = latents.values.subarray(number * rows * columns, (number + 1) * rows * columns);
    const [low, high] = extremes(channel);
    const picture: Samples = { width: columns, height: rows, rgba: greySamples(channel) };
    return { picture, caption: `channel ${number}: ${low.toFixed(2)} to ${high.toFixed(2)}` };
  });
  send({
    kind: "opened",
    preview: { width: columns, height: rows, rgba: small },
    channels,
    facts: factsOf(decoded),
    width: header.width,
    height: header.height,
  });
  decoderNetwork ??= DecoderNetwork.load(new URL("decoder.onnx", ASSETS));
  const network = await decoderNetwork;
  const samples = emptySamples(header.width, header.height, alphaPlane);
  await network.decode(
    latents,
    (pixels, count, stride, top) =>
      writeSamples(pixels, count, stride, samples, header.width, header.height, top, header.mode),
    (done, of) => {
      if (job !== latest) throw new Superseded();
      send({ kind: "progress", done, of });
    },
  );
  const picture: Samples = { width: header.width, height: header.height, rgba: samples };
  send({ kind: "finished", picture, milliseconds: performance.now() - start });
}

/** Another file was opened meanwhile. */
class Superseded extends Error {}

/** Return alpha at an eighth of the size: the mean of each latent's square. */
function reduced(alpha: Uint8Array, width: number, height: number, rows: number, columns: number): Uint8Array {
  return Uint8Array.from({ length: rows * columns }, (_, place) => {
    const left = (place % columns) * PIXELS_PER_LATENT;
    const top = Math.floor(place / columns) * PIXELS_PER_LATENT;
    const [right, bottom] = [Math.min(width, left + PIXELS_PER_LATENT), Math.min(height, top + PIXELS_PER_LATENT)];
    let sum = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += alpha[y * width + x]!;
    return Math.round(sum / ((right - left) * (bottom - top)));
  });
}

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  latest = data.job;
  show(data.job, new Uint8Array(data.file)).catch((error: unknown) => {
    if (error instanceof Superseded) return;
    const isOurs = error instanceof SdcError;
    const message = isOurs ? error.message : `the picture cannot be shown (${String(error)})`;
    postMessage({ job: data.job, kind: "failed", message } satisfies FromWorker);
  });
});
