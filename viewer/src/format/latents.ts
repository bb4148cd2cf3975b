/** Dequantised latents, and how the codecs of levels compute them. */

/**
 * SD-scaled latents, channel by channel and row by row, and the mean squared quantisation error that is expected of them.
 */
export interface Latents {
  readonly values: Float32Array;
  readonly rows: number;
  readonly columns: number;
  readonly noiseVariance: number;
}

/** Distance of two levels, of the codecs `uint8` and `palette`. */
export const STEP = 0.18215 * 0.18215;

export const ROUNDING_VARIANCE = (STEP * STEP) / 12;

/** Return the latent of a level. */
export function latentOf(level: number): number {
  return (level - 127.5) * STEP;
}
