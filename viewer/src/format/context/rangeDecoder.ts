/** The range decoder: 56 bits of state, which are more than a number of JavaScript's holds exactly. */
import { corrupt } from "../errors.js";

const FIRST_BYTES = 7;
const TOTAL_BITS = 16n;
const LEAST_WIDTH = 1n << 48n;
const MAX_GOLOMB_ZEROS = 20;

export class RangeDecoder {
  private width = 1n << 56n;
  private offset = 0n;
  private unit = 0n;
  private read = 0;

  constructor(private readonly stream: Uint8Array) {
    for (let count = 0; count < FIRST_BYTES; count++) this.shift();
  }

  /** Return in which of 2¹⁶ parts of the width the symbol lies. */
  target(): number {
    this.unit = this.width >> TOTAL_BITS;
    const target = Number(this.offset / this.unit);
    if (target >= 65536) throw corrupt("the range decoder finds no symbol");
    return target;
  }

  /** Take the symbol whose interval goes from `start` to `end`; {@link target} was called before. */
  take(start: number, end: number): void {
    this.offset -= this.unit * BigInt(start);
    this.width = this.unit * BigInt(end - start);
    while (this.width < LEAST_WIDTH) {
      this.width <<= 8n;
      this.shift();
    }
  }

  /** Return a number in an exponential Golomb code. */
  golomb(): number {
    let zeros = 0;
    while (this.bit() === 0) {
      zeros++;
      if (zeros > MAX_GOLOMB_ZEROS) throw corrupt("an escape is too long");
    }
    let number = 1;
    for (; zeros > 0; zeros--) number = 2 * number + this.bit();
    return number - 1;
  }

  /**
   * Check that the stream ends with the last symbol, as a writer must end it.
   *
   * @throws SdcError It does not.
   */
  checkEnd(): void {
    let number = 0n;
    for (let place = this.read - FIRST_BYTES; place < this.read; place++)
      number = (number << 8n) | BigInt(this.stream[place] ?? 0);
    const low = number - this.offset;
    let end = low;
    for (let bits = 56n; bits >= 0n; bits -= 8n) {
      end = -(-low >> bits) << bits; // low, rounded up
      if (end < low + this.width) break;
    }
    const isAsWritten = (end & ((1n << 56n) - 1n)) === number && this.read >= this.stream.length;
    if (!isAsWritten || this.stream.at(-1) === 0)
      throw corrupt("the stream of symbols does not end with the last of them");
  }

  private bit(): number {
    const bit = this.target() >> 15;
    this.take(bit << 15, (bit + 1) << 15);
    return bit;
  }

  private shift(): void {
    this.offset = (this.offset << 8n) | BigInt(this.stream[this.read++] ?? 0);
  }
}
