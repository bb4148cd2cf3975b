/** An eighth of the picture straight from its latents, by a fixed linear map (pillow_sdc/pipeline/preview.py). */
import type { Latents } from "./format/index.js";

const REACH = 1;
const WINDOW = 2 * REACH + 1;
const COLOURS = 3;

/**
 * The map's weights as the Python package has them: a row for each channel, row and column of the window, and a last one
 * of constants; each has the red, green and blue of the four quarters of a latent's square.
 */
export type PreviewWeights = readonly (readonly number[])[];

/** Return pixels, about −1 to 1: red, green and blue planes of a pixel for each latent. */
export function preview(latents: Latents, weights: PreviewWeights): Float32Array {
  const { rows, columns, values } = latents;
  const means = weights.map((row) =>
    Array.from(
      { length: COLOURS },
      (_, colour) => (row[colour]! + row[colour + 3]! + row[colour + 6]! + row[colour + 9]!) / 4,
    ),
  );
  const constants = means[means.length - 1]!;
  const pixels = new Float32Array(COLOURS * rows * columns);
  constants.forEach((value, colour) => pixels.fill(value, colour * rows * columns, (colour + 1) * rows * columns));
  for (let channel = 0; channel < 4; channel++) {
    for (let dy = -REACH; dy <= REACH; dy++) {
      for (let dx = -REACH; dx <= REACH; dx++) {
        const factors = means[channel * WINDOW * WINDOW + (dy + REACH) * WINDOW + dx + REACH]!;
        for (let y = 0; y < rows; y++) {
          const source = (channel * rows + Math.min(rows - 1, Math.max(0, y + dy))) * columns;
          for (let x = 0; x < columns; x++) {
            const value = values[source + Math.min(columns - 1, Math.max(0, x + dx))]!;
            for (let colour = 0; colour < COLOURS; colour++) {
              pixels[(colour * rows + y) * columns + x]! += factors[colour]! * value;
            }
          }
        }
      }
    }
  }
  return pixels;
}
