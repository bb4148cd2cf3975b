/** The package's decoder network, by ONNX Runtime in WebAssembly. */
import * as ort from "onnxruntime-web/wasm";

import type { Latents } from "../format/index.js";
import { split } from "./tiling.js";

const TILE = 96;
const TILE_OVERLAP = 16;
const SCALE = 8;
const CHANNELS = 4;
const COLOURS = 3;
const MAX_THREADS = 4;

/** Rows of pixels, about −1 to 1: red, green and blue planes. */
export type TakeRows = (pixels: Float32Array, rows: number, stride: number, top: number) => void;

export class DecoderNetwork {
  private constructor(private readonly session: ort.InferenceSession) {}

  /**
   * Load the network.
   *
   * @param model - Where the ONNX file is.
   */
  static async load(model: URL): Promise<DecoderNetwork> {
    // Threads share memory, which a page may only where it is isolated from others.
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
    return new DecoderNetwork(await ort.InferenceSession.create(model.href, { executionProviders: ["wasm"] }));
  }

  /**
   * Decode latents tile by tile, from top to bottom.
   *
   * @param take - Is given finished rows.
   * @param progress - Learns how many tiles are done, and how many there are.
   */
  async decode(latents: Latents, take: TakeRows, progress: (done: number, of: number) => void): Promise<void> {
    const rows = split(latents.rows, TILE, TILE_OVERLAP, SCALE);
    const columns = split(latents.columns, TILE, TILE_OVERLAP, SCALE);
    const stride = latents.columns * SCALE;
    let unfinished = new Float32Array();
    let unfinishedRows = 0;
    let done = 0;
    for (const [index, row] of rows.entries()) {
      const bandRows = (row.stop - row.start) * SCALE;
      const band = new Float32Array(COLOURS * bandRows * stride);
      for (const column of columns) {
        const part = await this.tile(latents, row.start, row.stop, column.start, column.stop);
        add(band, bandRows, stride, part, row.weights, column.start * SCALE, column.weights);
        progress(++done, rows.length * columns.length);
      }
      addRows(band, bandRows, unfinished, unfinishedRows, stride);
      const finished = ((rows[index + 1]?.start ?? latents.rows) - row.start) * SCALE;
      take(rowsOf(band, bandRows, stride, 0, finished), finished, stride, row.start * SCALE);
      unfinished = rowsOf(band, bandRows, stride, finished, bandRows);
      unfinishedRows = bandRows - finished;
    }
  }

  private async tile(
    latents: Latents,
    top: number,
    bottom: number,
    left: number,
    right: number,
  ): Promise<Float32Array> {
    const [height, width] = [bottom - top, right - left];
    const values = new Float32Array(CHANNELS * height * width);
    for (let channel = 0; channel < CHANNELS; channel++) {
      for (let y = 0; y < height; y++) {
        const start = (channel * latents.rows + top + y) * latents.columns;
        values.set(latents.values.subarray(start + left, start + right), (channel * height + y) * width);
      }
    }
    const results = await this.session.run({
      latents: new ort.Tensor("float32", values, [1, CHANNELS, height, width]),
      noise_variance: new ort.Tensor("float32", Float32Array.of(latents.noiseVariance), [1]),
    });
    return results[this.session.outputNames[0]!]!.data as Float32Array;
  }
}

function add(
  band: Float32Array,
  rows: number,
  stride: number,
  part: Float32Array,
  rowWeights: Float32Array,
  left: number,
  columnWeights: Float32Array,
): void {
  const width = columnWeights.length;
  for (let colour = 0; colour < COLOURS; colour++) {
    for (let y = 0; y < rows; y++) {
      const target = (colour * rows + y) * stride + left;
      const source = (colour * rows + y) * width;
      for (let x = 0; x < width; x++) {
        const pixel = Math.max(-1, Math.min(1, part[source + x]!));
        band[target + x]! += pixel * rowWeights[y]! * columnWeights[x]!;
      }
    }
  }
}

/** Add rows that tiles above have left to the first rows of a band. */
function addRows(band: Float32Array, bandRows: number, above: Float32Array, rows: number, stride: number): void {
  for (let colour = 0; colour < COLOURS; colour++) {
    const [target, source] = [colour * bandRows * stride, colour * rows * stride];
    for (let place = 0; place < rows * stride; place++) band[target + place]! += above[source + place]!;
  }
}

function rowsOf(
  band: Float32Array,
  bandRows: number,
  stride: number,
  start: number,
  stop: number,
): Float32Array<ArrayBuffer> {
  const part = new Float32Array(COLOURS * (stop - start) * stride);
  for (let colour = 0; colour < COLOURS; colour++) {
    const first = colour * bandRows * stride;
    part.set(band.subarray(first + start * stride, first + stop * stride), colour * (stop - start) * stride);
  }
  return part;
}
