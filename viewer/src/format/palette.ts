/** Codec 2, `palette`: a palette of latents, and an index for each place. */
import { corrupt } from "./errors.js";
import { inflate } from "./inflate.js";
import { latentOf, type Latents, ROUNDING_VARIANCE, STEP } from "./latents.js";

const NOISE_FACTOR = 0.093;
const NEIGHBOURS = 4;

export function decodePalette(payload: Uint8Array, rows: number, columns: number): Latents {
  const [last, flags] = payload;
  if (last === undefined || flags === undefined || flags > 1) throw corrupt("the head of the palette is damaged");
  const count = last + 1;
  const palette = inflate(payload, 2, 4 * count);
  const { bytes: indices, end } = inflate(payload, palette.end, rows * columns);
  if (end !== payload.length) throw corrupt("bytes follow the payload's last stream");
  const uses = new Uint32Array(count);
  for (const index of indices) {
    if (index >= count) throw corrupt("an index is outside the palette");
    uses[index]!++;
  }
  const levels = new Uint8Array(4 * count);
  for (let channel = 0; channel < 4; channel++) {
    let value = 0;
    for (let entry = 0; entry < count; entry++) {
      value = (value + palette.bytes[channel * count + entry]!) & 255;
      levels[4 * entry + channel] = value;
    }
  }
  const values = new Float32Array(4 * indices.length);
  indices.forEach((index, place) => {
    for (let channel = 0; channel < 4; channel++)
      values[channel * indices.length + place] = latentOf(levels[4 * index + channel]!);
  });
  const isExact = flags === 1 || count === 1;
  return { values, rows, columns, noiseVariance: isExact ? ROUNDING_VARIANCE : noiseOf(levels, uses, indices.length) };
}

/** Return the noise variance that the geometry of a palette lets expect. */
function noiseOf(levels: Uint8Array, uses: Uint32Array, places: number): number {
  let total = 0;
  uses.forEach((count, entry) => {
    const distances: number[] = [];
    for (let other = 0; other < uses.length; other++) {
      if (other === entry) continue;
      let distance = 0;
      for (let channel = 0; channel < 4; channel++)
        distance += (levels[4 * entry + channel]! - levels[4 * other + channel]!) ** 2;
      distances.push(distance);
    }
    const nearest = distances.sort((a, b) => a - b).slice(0, NEIGHBOURS);
    total += Math.max(count - 1, 0) * (nearest.reduce((sum, distance) => sum + distance, 0) / nearest.length);
  });
  return Math.max(ROUNDING_VARIANCE, NOISE_FACTOR * (total / places) * (STEP * STEP));
}
