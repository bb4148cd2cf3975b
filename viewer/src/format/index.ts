/** A decoder of SDC files as far as the latents, for browsers and Node (docs/format.md). */
import { decodeAlpha } from "./alpha.js";
import { type Container, type Header, latentShape, read } from "./container.js";
import { decodeContext } from "./context/decode.js";
import type { NetworkArrays } from "./context/network.js";
import type { Latents } from "./latents.js";
import { decodePalette } from "./palette.js";
import { unsupported } from "./errors.js";
import { decodeUint8 } from "./uint8.js";

export { read } from "./container.js";
export { readNetwork } from "./context/network.js";
export { type ErrorKind, SdcError } from "./errors.js";
export type { Container, Header, Latents, NetworkArrays };

export interface Decoded extends Container {
  readonly latents: Latents;
  /** One byte a pixel, row by row; `null` in modes without alpha. */
  readonly alphaPlane: Uint8Array | null;
}

/** Pixels of a picture, at most, unless another number is given: Pillow's own limit. */
export const MAX_PIXELS = 178956970;

/**
 * Return a file's latents, alpha and metadata.
 *
 * @param file - All of the file.
 * @param network - The network of the codec `context`, as {@link readNetwork} reads it.
 * @param maxPixels - Larger pictures are refused before memory is taken for them.
 * @throws SdcError It is not an SDC file, or damaged, or of a kind that is not known, or too large.
 */
export function decode(file: Uint8Array, network: NetworkArrays, maxPixels = MAX_PIXELS): Decoded {
  const container = read(file);
  const { width, height } = container.header;
  if (width * height > maxPixels)
    throw unsupported(`a picture of ${width}×${height} pixels is larger than the limit of ${maxPixels} pixels`);
  const latents = decodeLatents(container, network);
  return { ...container, latents, alphaPlane: container.alpha && decodeAlpha(container.alpha, width, height) };
}

function decodeLatents({ header, payload }: Container, network: NetworkArrays): Latents {
  const { rows, columns } = latentShape(header);
  switch (header.codec) {
    case "uint8":
      return decodeUint8(payload, rows, columns);
    case "palette":
      return decodePalette(payload, rows, columns);
    case "context":
      return decodeContext(payload, rows, columns, network);
  }
}
