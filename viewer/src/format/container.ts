/** The container: header, chunks, metadata, and their limits (docs/format.md). */
import { crc32 } from "./crc32.js";
import { corrupt, SdcError, unsupported } from "./errors.js";
import { inflate } from "./inflate.js";

export const PIXELS_PER_LATENT = 8;

const SIGNATURE = [0x89, 0x53, 0x44, 0x43, 0x0d, 0x0a, 0x0a];
const FORMAT_VERSION = 1;
const HEADER_BYTES = 19;
const MAX_CHUNKS = 64;
const MAX_METADATA_BYTES = 16777216;
const MAX_PAYLOAD_BYTES_PER_LATENT = 8;
const MAX_PAYLOAD_BYTES_FIXED = 4096;
const MAX_ALPHA_BYTES_PER_PIXEL = 2;
const MAX_ALPHA_BYTES_FIXED = 4096;
const MAX_LENGTH_BYTES = 5;

const CODECS: Record<number, Codec> = { 1: "uint8", 2: "palette", 3: "context" };
const LATENT_SPACES: Record<number, string> = { 1: "sd-v1" };
const MODES: Record<number, Mode> = { 0: "L", 1: "RGB", 2: "LA", 3: "RGBA" };

/** Each deflated kind of metadata, by what it is when it is inflated. */
const INFLATED: Record<string, string> = { f: "e", j: "i", y: "x" };

const METADATA: Record<string, string> = { e: "exif", i: "icc_profile", x: "xmp", d: "dpi" };

export type Codec = "uint8" | "palette" | "context";
export type Mode = "L" | "RGB" | "LA" | "RGBA";

export interface Header {
  readonly width: number;
  readonly height: number;
  readonly mode: Mode;
  readonly codec: Codec;
  readonly latentSpace: string;
}

export interface Chunk {
  readonly type: string;
  readonly data: Uint8Array;
}

/** What a file holds, not yet decoded; `size` is the number of its bytes, without what follows it. */
export interface Container {
  readonly header: Header;
  readonly chunks: readonly Chunk[];
  readonly metadata: ReadonlyMap<string, Uint8Array>;
  readonly alpha: Uint8Array | null;
  readonly payload: Uint8Array;
  readonly size: number;
}

export function hasAlpha(mode: Mode): boolean {
  return mode === "LA" || mode === "RGBA";
}

/** Return the rows and columns of latents that cover a picture. */
export function latentShape(header: Header): { rows: number; columns: number } {
  const cover = (pixels: number): number => Math.ceil(pixels / PIXELS_PER_LATENT);
  return { rows: cover(header.height), columns: cover(header.width) };
}

/**
 * Return what a file holds; nothing is copied but inflated metadata.
 *
 * @throws SdcError It is not an SDC file, or damaged, or of a kind that is not known.
 */
export function read(file: Uint8Array): Container {
  const header = readHeader(file);
  const chunks: Chunk[] = [];
  let position = HEADER_BYTES;
  let metadataBytes = 0;
  while (chunks.at(-1)?.type !== "P") {
    if (chunks.length === MAX_CHUNKS) throw corrupt(`the file has more than ${MAX_CHUNKS} chunks`);
    const [chunk, end] = readChunk(file, position, header, MAX_METADATA_BYTES - metadataBytes);
    if (chunk.type !== "A") metadataBytes += chunk.data.length;
    chunks.push(chunk);
    position = end;
  }
  const ofType = (type: string): Chunk[] => chunks.filter((chunk) => chunk.type === type);
  const alphas = ofType("A");
  if (hasAlpha(header.mode) && alphas.length !== 1)
    throw corrupt(`the mode ${header.mode} needs one chunk of alpha, and the file has ${alphas.length}`);
  return {
    header,
    chunks,
    metadata: metadataOf(chunks),
    alpha: alphas[0]?.data ?? null,
    payload: chunks.at(-1)!.data,
    size: position,
  };
}

function readHeader(file: Uint8Array): Header {
  if (SIGNATURE.some((byte, index) => file[index] !== byte)) throw new SdcError("NotSdcError", "not an SDC file");
  if (file.length < 8) throw truncated();
  if (file[7] !== FORMAT_VERSION) throw unsupported(`format version ${file[7]} is not known here`);
  if (file.length < HEADER_BYTES) throw truncated();
  const view = viewOf(file);
  if (view.getUint32(15, true) !== crc32(file.subarray(0, 15))) throw corrupt("the header's checksum is wrong");
  const codec = known(CODECS, file[8]!, "codec");
  const latentSpace = known(LATENT_SPACES, file[9]!, "latent space");
  const mode = known(MODES, file[10]!, "mode");
  const [width, height] = [view.getUint16(11, true), view.getUint16(13, true)];
  if (width === 0 || height === 0) throw corrupt(`the picture is ${width}×${height}`);
  return { width, height, mode, codec, latentSpace };
}

function readChunk(file: Uint8Array, start: number, header: Header, mostMetadata: number): [Chunk, number] {
  if (start >= file.length) throw truncated();
  const type = String.fromCharCode(file[start]!);
  if (!/[A-Za-z]/.test(type)) throw corrupt("a chunk's type is not a letter");
  const [length, position] = readLength(file, start + 1, truncated);
  if (type === "A" && !hasAlpha(header.mode)) throw unsupported(`alpha in the mode ${header.mode} is not known here`);
  if (type !== "P" && type !== "A" && type === type.toUpperCase())
    throw unsupported(`chunk type ${type} is not known here`);
  if (length > mostBytes(type, header, mostMetadata)) throw corrupt(`a chunk of type ${type} claims ${length} bytes`);
  const end = position + length;
  if (end + 4 > file.length) throw truncated();
  if (viewOf(file).getUint32(end, true) !== crc32(file.subarray(start, end)))
    throw corrupt(`the checksum of chunk ${type} is wrong`);
  return [{ type, data: file.subarray(position, end) }, end + 4];
}

function mostBytes(type: string, header: Header, mostMetadata: number): number {
  if (type === "A") return MAX_ALPHA_BYTES_FIXED + MAX_ALPHA_BYTES_PER_PIXEL * header.width * header.height;
  if (type !== "P") return mostMetadata;
  const { rows, columns } = latentShape(header);
  return MAX_PAYLOAD_BYTES_FIXED + MAX_PAYLOAD_BYTES_PER_LATENT * rows * columns;
}

function metadataOf(chunks: readonly Chunk[]): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  let expanded = 0;
  const add = (type: string, bytes: Uint8Array): void => {
    const name = METADATA[type];
    if (name === undefined) return;
    if (found.has(name)) throw corrupt(`the file has more than one chunk of ${name}`);
    found.set(name, bytes);
  };
  for (const { type, data } of chunks) {
    if (type === "P" || type === "A") continue;
    const plain = INFLATED[type];
    const ended = (): Error => corrupt("a chunk of metadata is cut off");
    const [length, start] = plain === undefined ? [data.length, 0] : readLength(data, 0, ended);
    expanded += length;
    if (expanded > MAX_METADATA_BYTES) throw corrupt("the file has too many metadata");
    if (plain === undefined) {
      add(type, data);
      continue;
    }
    const { bytes, end } = inflate(data, start, length);
    if (end !== data.length) throw corrupt("bytes follow deflated metadata");
    add(plain, bytes);
  }
  const resolution = found.get("dpi");
  if (resolution !== undefined) {
    const isValid = resolution.length === 8 && [0, 4].every((place) => viewOf(resolution).getUint32(place, true) > 0);
    if (!isValid) throw corrupt("the resolution is not two positive numbers");
  }
  return found;
}

/** Return a canonical LEB128 number and where it ends. */
function readLength(data: Uint8Array, start: number, ended: () => Error): [number, number] {
  let length = 0;
  for (let group = 0; group < MAX_LENGTH_BYTES; group++) {
    const byte = data[start + group];
    if (byte === undefined) throw ended();
    length += (byte & 127) * 2 ** (7 * group);
    if (byte < 128) {
      if (byte === 0 && group > 0) throw corrupt("a length is not canonical");
      return [length, start + group + 1];
    }
  }
  throw corrupt("a length has more than five bytes");
}

function known<Value>(values: Record<number, Value>, number: number, what: string): Value {
  const value = values[number];
  if (value === undefined) throw unsupported(`${what} ${number} is not known here`);
  return value;
}

function truncated(): SdcError {
  return new SdcError("TruncatedFileError", "the file ends too early");
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
