/** Tiles of a picture that overlap, and how they are blended (pillow_sdc/pipeline/tiling.py). */

/** A tile's extent along an axis, and the weight of each of its elements; all tiles' weights sum to one. */
export interface Span {
  readonly start: number;
  readonly stop: number;
  readonly weights: Float32Array;
}

/**
 * Cover an axis with as few tiles as possible, evenly spread and of equal length.
 *
 * @param length - Elements along the axis.
 * @param most - Length of a tile, at most.
 * @param overlap - Elements that neighbours share, at least.
 * @param scale - Weights are given for so many times as many elements.
 */
export function split(length: number, most: number, overlap: number, scale: number): Span[] {
  if (length <= most) return [{ start: 0, stop: length, weights: new Float32Array(length * scale).fill(1) }];
  const count = Math.ceil((length - overlap) / (most - overlap));
  const tile = Math.ceil((length + (count - 1) * overlap) / count);
  const starts = Array.from({ length: count }, (_, index) => Math.round((index * (length - tile)) / (count - 1)));
  const rising = (place: number): number => Math.min(1, (place + 1) / (overlap * scale + 1));
  const window = Float64Array.from({ length: tile * scale }, (_, place) =>
    Math.min(rising(place), rising(tile * scale - 1 - place)),
  );
  const total = new Float64Array(length * scale);
  for (const start of starts) window.forEach((weight, place) => (total[start * scale + place]! += weight));
  return starts.map((start) => ({
    start,
    stop: start + tile,
    weights: Float32Array.from(window, (weight, place) => weight / total[start * scale + place]!),
  }));
}
