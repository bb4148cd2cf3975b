/** From pixels, about −1 to 1, to what a canvas shows. */
import type { Mode } from "./format/container.js";

const LUMA = [0.299, 0.587, 0.114] as const;

/**
 * Write pixels into samples of red, green, blue and alpha.
 *
 * @param pixels - Red, green and blue planes of `rows` × `stride`.
 * @param samples - Four bytes a pixel, `width` to a row; alpha is left as it is.
 * @param top - Row of the picture that the first row of pixels is.
 */
export function writeSamples(
  pixels: Float32Array,
  rows: number,
  stride: number,
  samples: Uint8ClampedArray,
  width: number,
  height: number,
  top: number,
  mode: Mode,
): void {
  const plane = rows * stride;
  for (let y = 0; y < Math.min(rows, height - top); y++) {
    for (let x = 0; x < width; x++) {
      const place = y * stride + x;
      const target = 4 * ((top + y) * width + x);
      const colours = [pixels[place]!, pixels[plane + place]!, pixels[2 * plane + place]!] as const;
      const grey = LUMA[0] * colours[0] + LUMA[1] * colours[1] + LUMA[2] * colours[2];
      for (let colour = 0; colour < 3; colour++) {
        samples[target + colour] = Math.round(((mode.startsWith("L") ? grey : colours[colour]!) + 1) * 127.5);
      }
    }
  }
}

/** Return samples of a size, black and opaque but for alpha where there is some. */
export function emptySamples(width: number, height: number, alpha: Uint8Array | null): Uint8ClampedArray<ArrayBuffer> {
  const samples = new Uint8ClampedArray(4 * width * height);
  for (let place = 0; place < width * height; place++) samples[4 * place + 3] = alpha === null ? 255 : alpha[place]!;
  return samples;
}

/** Return a channel from its least value, black, to its greatest, white; one of a single value is grey. */
export function greySamples(channel: Float32Array): Uint8ClampedArray<ArrayBuffer> {
  const [low, high] = extremes(channel);
  const samples = new Uint8ClampedArray(4 * channel.length);
  channel.forEach((value, place) => {
    const level = low === high ? 128 : Math.round(((value - low) * 255) / (high - low));
    samples.fill(level, 4 * place, 4 * place + 3);
    samples[4 * place + 3] = 255;
  });
  return samples;
}

/** Return the least and the greatest value. */
export function extremes(values: Float32Array): [number, number] {
  return values.reduce<[number, number]>(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  );
}
