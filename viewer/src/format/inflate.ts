/**
 * Raw deflate streams (RFC 1951) of a length that is known before, one after another in one array: the browser's
 * DecompressionStream says neither where a stream ends nor stops at a length.
 */
import { corrupt } from "./errors.js";

/** What a stream holds, and where the next byte after it is. */
export interface Expanded {
  readonly bytes: Uint8Array;
  readonly end: number;
}

/** No deflate stream expands further. */
const MAX_EXPANSION = 1032;

const MAX_BITS = 15;
const LENGTH_BASES = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASES = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
];
const DISTANCE_BITS = [
  0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
];
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A canonical Huffman code: how many codes have each length, and the symbols in the order of their codes. */
interface Code {
  readonly counts: Uint16Array;
  readonly symbols: Uint16Array;
}

/**
 * Return the `length` bytes of the deflate stream that starts at `start`.
 *
 * @throws SdcError The stream is damaged, unfinished or of another length.
 */
export function inflate(data: Uint8Array, start: number, length: number): Expanded {
  if (length > MAX_EXPANSION * (data.length - start)) throw damaged();
  return new Inflater(data, start, length).run();
}

function damaged(): Error {
  return corrupt("a deflate stream is damaged, or of another length than expected");
}

class Inflater {
  private readonly output: Uint8Array;
  private written = 0;
  private bits = 0;
  private bitCount = 0;

  constructor(
    private readonly data: Uint8Array,
    private position: number,
    length: number,
  ) {
    this.output = new Uint8Array(length);
  }

  run(): Expanded {
    let isLast: boolean;
    do {
      isLast = this.take(1) === 1;
      const kind = this.take(2);
      if (kind === 0) this.stored();
      else if (kind === 1) this.compressed(FIXED_LENGTHS, FIXED_DISTANCES);
      else if (kind === 2) this.dynamic();
      else throw damaged();
    } while (!isLast);
    if (this.written !== this.output.length) throw damaged();
    return { bytes: this.output, end: this.position };
  }

  private take(count: number): number {
    while (this.bitCount < count) {
      if (this.position >= this.data.length) throw damaged();
      this.bits |= this.data[this.position++]! << this.bitCount;
      this.bitCount += 8;
    }
    const value = this.bits & ((1 << count) - 1);
    this.bits >>>= count;
    this.bitCount -= count;
    return value;
  }

  private stored(): void {
    this.bits = this.bitCount = 0;
    const { data, position } = this;
    if (position + 4 > data.length) throw damaged();
    const length = data[position]! | (data[position + 1]! << 8);
    const complement = data[position + 2]! | (data[position + 3]! << 8);
    const end = position + 4 + length;
    if ((length ^ complement) !== 0xffff || end > data.length || this.written + length > this.output.length)
      throw damaged();
    this.output.set(data.subarray(position + 4, end), this.written);
    this.written += length;
    this.position = end;
  }

  private dynamic(): void {
    const lengthCount = this.take(5) + 257;
    const distanceCount = this.take(5) + 1;
    const codeCount = this.take(4) + 4;
    if (lengthCount > 286 || distanceCount > 30) throw damaged();
    const lengths = new Uint8Array(19);
    for (let index = 0; index < codeCount; index++) lengths[CODE_LENGTH_ORDER[index]!] = this.take(3);
    const code = codeOf(lengths, false);
    const all = new Uint8Array(lengthCount + distanceCount);
    for (let index = 0; index < all.length;) {
      const symbol = this.symbol(code);
      if (symbol < 16) {
        all[index++] = symbol;
        continue;
      }
      if (symbol === 16 && index === 0) throw damaged();
      const value = symbol === 16 ? all[index - 1]! : 0;
      const repeats = symbol === 16 ? 3 + this.take(2) : symbol === 17 ? 3 + this.take(3) : 11 + this.take(7);
      if (index + repeats > all.length) throw damaged();
      all.fill(value, index, index + repeats);
      index += repeats;
    }
    if (all[256] === 0) throw damaged();
    this.compressed(codeOf(all.subarray(0, lengthCount), true), codeOf(all.subarray(lengthCount), true));
  }

  private compressed(lengths: Code, distances: Code): void {
    const { output } = this;
    for (;;) {
      const symbol = this.symbol(lengths);
      if (symbol === 256) return;
      if (symbol < 256) {
        if (this.written >= output.length) throw damaged();
        output[this.written++] = symbol;
        continue;
      }
      const place = symbol - 257;
      if (place >= LENGTH_BASES.length) throw damaged();
      const length = LENGTH_BASES[place]! + this.take(LENGTH_BITS[place]!);
      const other = this.symbol(distances);
      if (other >= DISTANCE_BASES.length) throw damaged();
      const distance = DISTANCE_BASES[other]! + this.take(DISTANCE_BITS[other]!);
      if (distance > this.written || this.written + length > output.length) throw damaged();
      for (let count = 0; count < length; count++, this.written++)
        output[this.written] = output[this.written - distance]!;
    }
  }

  private symbol(code: Code): number {
    let value = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= MAX_BITS; length++) {
      value |= this.take(1);
      const count = code.counts[length]!;
      if (value - first < count) return code.symbols[index + value - first]!;
      index += count;
      first = (first + count) << 1;
      value <<= 1;
    }
    throw damaged();
  }
}

/** Return the code of lengths; an incomplete one is allowed where it has a single code of one bit, or none. */
function codeOf(lengths: Uint8Array, mayBeIncomplete: boolean): Code {
  const counts = new Uint16Array(MAX_BITS + 1);
  for (const length of lengths) counts[length]!++;
  counts[0] = 0;
  let left = 1;
  let used = 0;
  for (let length = 1; length <= MAX_BITS; length++) {
    left = 2 * left - counts[length]!;
    used += counts[length]!;
    if (left < 0) throw damaged();
  }
  if (left > 0 && !(mayBeIncomplete && (used === 0 || (used === 1 && counts[1] === 1)))) throw damaged();
  const offsets = new Uint16Array(MAX_BITS + 2);
  for (let length = 1; length <= MAX_BITS; length++) offsets[length + 1] = offsets[length]! + counts[length]!;
  const symbols = new Uint16Array(used);
  lengths.forEach((length, symbol) => {
    if (length > 0) symbols[offsets[length]!++] = symbol;
  });
  return { counts, symbols };
}

const FIXED_LENGTHS = codeOf(
  Uint8Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
  false,
);
const FIXED_DISTANCES: Code = {
  counts: Uint16Array.from({ length: MAX_BITS + 1 }, (_, length) => (length === 5 ? 32 : 0)),
  symbols: Uint16Array.from({ length: 32 }, (_, symbol) => symbol),
};
