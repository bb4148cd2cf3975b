/** Reads the arrays of a file that numpy has saved with several: a ZIP archive of `.npy` files. */
import { corrupt } from "../errors.js";
import { inflate } from "../inflate.js";

export interface NumberArray {
  readonly shape: readonly number[];
  readonly values: Int8Array | Int32Array;
}

const LOCAL_HEADER = 0x04034b50;
const LOCAL_HEADER_BYTES = 30;
const CENTRAL_HEADER = 0x02014b50;
const CENTRAL_HEADER_BYTES = 46;
const END_HEADER = 0x06054b50;
const END_HEADER_BYTES = 22;
const STORED = 0;

/** Return the arrays by their names; they are of int8 or int32. */
export function readNpz(file: Uint8Array): Map<string, NumberArray> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const arrays = new Map<string, NumberArray>();
  const end = file.length - END_HEADER_BYTES; // numpy writes no comment after it
  check(end >= 0 && view.getUint32(end, true) === END_HEADER);
  let position = view.getUint32(end + 16, true);
  for (let entry = view.getUint16(end + 10, true); entry > 0; entry--) {
    check(position + CENTRAL_HEADER_BYTES <= file.length && view.getUint32(position, true) === CENTRAL_HEADER);
    const method = view.getUint16(position + 10, true);
    const size = view.getUint32(position + 24, true);
    const nameLength = view.getUint16(position + 28, true);
    const name = new TextDecoder().decode(
      file.subarray(position + CENTRAL_HEADER_BYTES, position + CENTRAL_HEADER_BYTES + nameLength),
    );
    const local = view.getUint32(position + 42, true);
    check(local + LOCAL_HEADER_BYTES <= file.length && view.getUint32(local, true) === LOCAL_HEADER);
    const start = local + LOCAL_HEADER_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const content = method === STORED ? file.slice(start, start + size) : inflate(file, start, size).bytes;
    arrays.set(name.replace(/\.npy$/, ""), readNpy(content));
    position +=
      CENTRAL_HEADER_BYTES + nameLength + view.getUint16(position + 30, true) + view.getUint16(position + 32, true);
  }
  return arrays;
}

function readNpy(content: Uint8Array): NumberArray {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  check(content.length > 10 && content[6] === 1);
  const start = 10 + view.getUint16(8, true);
  const header = new TextDecoder().decode(content.subarray(10, start));
  const type = /'descr': '(.*?)'/.exec(header)?.[1];
  const shape = /'shape': \((.*?)\)/
    .exec(header)?.[1]
    ?.split(",")
    .filter((part) => part.trim())
    .map(Number);
  check(shape !== undefined && header.includes("'fortran_order': False") && (type === "|i1" || type === "<i4"));
  const count = shape!.reduce((product, length) => product * length, 1);
  const data = content.slice(start);
  check(data.length === count * (type === "|i1" ? 1 : 4));
  if (type === "|i1") return { shape: shape!, values: new Int8Array(data.buffer) };
  const numbers = new DataView(data.buffer);
  return { shape: shape!, values: Int32Array.from({ length: count }, (_, index) => numbers.getInt32(4 * index, true)) };
}

function check(isRight: boolean): void {
  if (!isRight) throw corrupt("the context network is damaged");
}
