/** Codec 1, `uint8`: latents of eight bits. */
import { corrupt } from "./errors.js";
import { inflate } from "./inflate.js";
import { latentOf, type Latents, ROUNDING_VARIANCE } from "./latents.js";

export function decodeUint8(payload: Uint8Array, rows: number, columns: number): Latents {
  const count = rows * columns;
  const residuals: Uint8Array[] = [];
  let position = 0;
  for (let channel = 0; channel < 4; channel++) {
    const { bytes, end } = inflate(payload, position, count);
    residuals.push(bytes);
    position = end;
  }
  if (position !== payload.length) throw corrupt("bytes follow the payload's last stream");
  const values = new Float32Array(4 * count);
  residuals.forEach((plane, channel) => {
    const levels = new Uint8Array(count);
    for (let place = 0; place < count; place++) {
      const left = place % columns > 0 ? levels[place - 1]! - 128 : 0;
      const above = place >= columns ? levels[place - columns]! - 128 : 0;
      levels[place] = plane[place]! + Math.floor((left + above) / 4) + 128;
      values[channel * count + place] = latentOf(levels[place]!);
    }
  });
  return { values, rows, columns, noiseVariance: ROUNDING_VARIANCE };
}
