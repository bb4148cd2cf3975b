/** The plane of alpha: one byte a pixel, without loss (docs/format.md, Alpha). */
import { corrupt } from "./errors.js";
import { expand } from "./lzma.js";

/**
 * Return the plane, row by row.
 *
 * @throws SdcError It is damaged.
 */
export function decodeAlpha(data: Uint8Array, width: number, height: number): Uint8Array {
  const kind = data[0];
  if (kind === 0) {
    check(data.length === 2);
    return new Uint8Array(width * height).fill(data[1]!);
  }
  if (kind === 1) return rectangle(data, width, height);
  if (kind === 2) return binary(data, width, height);
  check(kind === 3 && data.length >= 2 && data[1]! <= 3);
  return partial(data, width, height);
}

function rectangle(data: Uint8Array, width: number, height: number): Uint8Array {
  check(data.length === 11);
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [left, top, columns, rows] = [3, 5, 7, 9].map((place) => view.getUint16(place, true)) as [
    number,
    number,
    number,
    number,
  ];
  check(columns > 0 && rows > 0 && left + columns <= width && top + rows <= height);
  const plane = new Uint8Array(width * height).fill(data[1]!);
  for (let y = top; y < top + rows; y++) plane.fill(data[2]!, y * width + left, y * width + left + columns);
  return plane;
}

function binary(data: Uint8Array, width: number, height: number): Uint8Array {
  const rowBytes = Math.ceil(width / 8);
  const { bytes, end } = expand(data, 1, rowBytes * height);
  check(end === data.length);
  const plane = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      plane[y * width + x] = (bytes[y * rowBytes + (x >> 3)]! >> (7 - (x & 7))) & 1 ? 255 : 0;
    }
  }
  return plane;
}

function partial(data: Uint8Array, width: number, height: number): Uint8Array {
  const rowBytes = Math.ceil(width / 4);
  const map = expand(data, 2, rowBytes * height);
  const mark = (x: number, y: number): number => (map.bytes[y * rowBytes + (x >> 2)]! >> (6 - 2 * (x & 3))) & 3;
  let count = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      check(mark(x, y) < 3);
      if (mark(x, y) === 1) count++;
    }
  }
  const residuals = expand(data, map.end, count);
  check(residuals.end === data.length);
  const plane = new Uint8Array(width * height);
  let next = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = y * width + x;
      if (mark(x, y) === 2) plane[place] = 255;
      if (mark(x, y) !== 1) continue;
      const left = x > 0 ? plane[place - 1]! : 0;
      const above = y > 0 ? plane[place - width]! : 0;
      const corner = x > 0 && y > 0 ? plane[place - width - 1]! : 0;
      const value = (residuals.bytes[next++]! + expected(data[1]!, left, above, corner)) & 255;
      check(value > 0 && value < 255);
      plane[place] = value;
    }
  }
  return plane;
}

function expected(predictor: number, left: number, above: number, corner: number): number {
  const plane = left + above - corner;
  if (predictor === 0) return 0;
  if (predictor === 1) return left;
  if (predictor === 2) return plane;
  return Math.max(Math.min(left, above), Math.min(Math.max(left, above), plane));
}

function check(isRight: boolean): void {
  if (!isRight) throw corrupt("the chunk of alpha is damaged");
}
