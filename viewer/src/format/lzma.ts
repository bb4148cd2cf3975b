/**
 * Raw LZMA streams with an end marker, as the chunk of alpha has them: lc = lp = pb = 0 and a dictionary of 2²⁰ bytes.
 * The algorithm is that of the LZMA specification in the LZMA SDK (Pavlov 2015).
 */
import { corrupt } from "./errors.js";
import type { Expanded } from "./inflate.js";

const DICTIONARY_BYTES = 1 << 20;
const STATES = 12;
const INITIAL = 1 << 10;
const MODEL_BITS = 11;
const MOVE_BITS = 5;
const TOP = 1 << 24;
const MIN_LENGTH = 2;
const LENGTH_STATES = 4;
const END_MARKER = 0xffffffff;

/**
 * Return the `length` bytes of the LZMA stream that starts at `start`.
 *
 * Memory is taken as the stream fills it, so that a short stream cannot claim much.
 *
 * @throws SdcError The stream is damaged, unfinished or of another length.
 */
export function expand(data: Uint8Array, start: number, length: number): Expanded {
  return new Decoder(data, start, length).run();
}

function damaged(): Error {
  return corrupt("an LZMA stream of alpha is damaged, or of another length than expected");
}

function probabilities(count: number): Uint16Array {
  return new Uint16Array(count).fill(INITIAL);
}

interface LengthModel {
  readonly choice: Uint16Array;
  readonly low: Uint16Array;
  readonly middle: Uint16Array;
  readonly high: Uint16Array;
}

function lengthModel(): LengthModel {
  return { choice: probabilities(2), low: probabilities(8), middle: probabilities(8), high: probabilities(256) };
}

class Decoder {
  private range = 0xffffffff;
  private code = 0;
  private output: Uint8Array;
  private written = 0;

  private readonly isMatch = probabilities(STATES);
  private readonly isRepeated = probabilities(STATES);
  private readonly isRepeated0 = probabilities(STATES);
  private readonly isRepeated0Long = probabilities(STATES);
  private readonly isRepeated1 = probabilities(STATES);
  private readonly isRepeated2 = probabilities(STATES);
  private readonly literals = probabilities(0x300);
  private readonly slots = Array.from({ length: LENGTH_STATES }, () => probabilities(64));
  private readonly special = probabilities(128);
  private readonly aligned = probabilities(16);
  private readonly matchLengths = lengthModel();
  private readonly repeatedLengths = lengthModel();

  constructor(
    private readonly data: Uint8Array,
    private position: number,
    private readonly length: number,
  ) {
    this.output = new Uint8Array(Math.min(length, 1 << 16));
  }

  run(): Expanded {
    if (this.next() !== 0) throw damaged();
    for (let count = 0; count < 4; count++) this.code = ((this.code << 8) | this.next()) >>> 0;
    let state = 0;
    let [rep0, rep1, rep2, rep3] = [0, 0, 0, 0];
    for (;;) {
      if (this.bit(this.isMatch, state) === 0) {
        this.literal(state, rep0);
        state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      let length: number;
      if (this.bit(this.isRepeated, state) === 0) {
        [rep3, rep2, rep1] = [rep2, rep1, rep0];
        length = this.lengthOf(this.matchLengths);
        state = state < 7 ? 7 : 10;
        rep0 = this.distance(length);
        if (rep0 === END_MARKER) break;
      } else {
        if (this.written === 0) throw damaged();
        if (this.bit(this.isRepeated0, state) === 0) {
          if (this.bit(this.isRepeated0Long, state) === 0) {
            state = state < 7 ? 9 : 11;
            this.copy(rep0, 1);
            continue;
          }
        } else {
          let distance: number;
          if (this.bit(this.isRepeated1, state) === 0) {
            distance = rep1;
          } else {
            if (this.bit(this.isRepeated2, state) === 0) {
              distance = rep2;
            } else {
              distance = rep3;
              rep3 = rep2;
            }
            rep2 = rep1;
          }
          rep1 = rep0;
          rep0 = distance;
        }
        length = this.lengthOf(this.repeatedLengths);
        state = state < 7 ? 8 : 11;
      }
      this.copy(rep0, length + MIN_LENGTH);
    }
    this.normalise();
    if (this.code !== 0 || this.written !== this.length) throw damaged();
    return { bytes: this.output.subarray(0, this.written), end: this.position };
  }

  private next(): number {
    if (this.position >= this.data.length) throw damaged();
    return this.data[this.position++]!;
  }

  private normalise(): void {
    if (this.range < TOP) {
      this.range = (this.range << 8) >>> 0;
      this.code = ((this.code << 8) | this.next()) >>> 0;
    }
  }

  private bit(model: Uint16Array, index: number): number {
    this.normalise();
    const probability = model[index]!;
    const bound = (this.range >>> MODEL_BITS) * probability;
    if (this.code < bound) {
      this.range = bound;
      model[index] = probability + (((1 << MODEL_BITS) - probability) >> MOVE_BITS);
      return 0;
    }
    this.range -= bound;
    this.code -= bound;
    model[index] = probability - (probability >> MOVE_BITS);
    return 1;
  }

  private directBits(count: number): number {
    let value = 0;
    for (let bit = 0; bit < count; bit++) {
      this.normalise();
      this.range >>>= 1;
      const isOne = this.code >= this.range;
      if (isOne) this.code -= this.range;
      value = value * 2 + (isOne ? 1 : 0);
    }
    return value;
  }

  private tree(model: Uint16Array, bits: number): number {
    let node = 1;
    for (let bit = 0; bit < bits; bit++) node = (node << 1) | this.bit(model, node);
    return node - (1 << bits);
  }

  private reverseTree(model: Uint16Array, offset: number, bits: number): number {
    let node = 1;
    let value = 0;
    for (let bit = 0; bit < bits; bit++) {
      const digit = this.bit(model, offset + node);
      node = (node << 1) | digit;
      value |= digit << bit;
    }
    return value;
  }

  private lengthOf(model: LengthModel): number {
    if (this.bit(model.choice, 0) === 0) return this.tree(model.low, 3);
    if (this.bit(model.choice, 1) === 0) return 8 + this.tree(model.middle, 3);
    return 16 + this.tree(model.high, 8);
  }

  private distance(length: number): number {
    const slot = this.tree(this.slots[Math.min(length, LENGTH_STATES - 1)]!, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = (2 | (slot & 1)) * 2 ** bits;
    if (slot < 14) return base + this.reverseTree(this.special, base - slot, bits);
    return base + this.directBits(bits - 4) * 16 + this.reverseTree(this.aligned, 0, 4);
  }

  private literal(state: number, rep0: number): void {
    let symbol = 1;
    if (state >= 7) {
      let matched = this.byteAt(rep0);
      do {
        const matchedBit = (matched >> 7) & 1;
        matched <<= 1;
        const bit = this.bit(this.literals, ((1 + matchedBit) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (matchedBit !== bit) break;
      } while (symbol < 0x100);
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.bit(this.literals, symbol);
    this.put(symbol & 0xff);
  }

  private byteAt(distance: number): number {
    if (distance >= this.written || distance >= DICTIONARY_BYTES) throw damaged();
    return this.output[this.written - distance - 1]!;
  }

  private put(byte: number): void {
    if (this.written >= this.length) throw damaged();
    if (this.written === this.output.length) {
      const grown = new Uint8Array(Math.min(this.length, 2 * this.output.length));
      grown.set(this.output);
      this.output = grown;
    }
    this.output[this.written++] = byte;
  }

  private copy(distance: number, length: number): void {
    for (let count = 0; count < length; count++) this.put(this.byteAt(distance));
  }
}
