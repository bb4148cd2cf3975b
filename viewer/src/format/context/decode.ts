/** Codec 3, `context`: symbols, coded with the probabilities that a small network predicts. */
import { corrupt, unsupported } from "../errors.js";
import type { Latents } from "../latents.js";
import { Mixture } from "./mixture.js";
import { CHANNELS, INPUTS_PER_PLACE, Network, type NetworkArrays, WINDOW_PLACES } from "./network.js";
import { RangeDecoder } from "./rangeDecoder.js";
import { ExactSum } from "./sum.js";

const NETWORK_NUMBER = 1;
const HEAD_BYTES = 3;
const BAND_ROWS = 128;
const FRONT_SLOPE = 3;
const IN_PICTURE = 32;
const REACH = 4;

/** Places of the window, relative to the one that is coded. */
const WINDOW: readonly (readonly [dx: number, dy: number])[] = window();

const WEIGHTED_AXIS = [-4, -2, -2, 5] as const;
const WEIGHTED_FACTOR = -0.5 / 49;

/** What a payload says of itself. */
export interface ContextHead {
  readonly step: number;
  readonly isTrellis: boolean;
  readonly isWeighted: boolean;
}

/** @throws SdcError The head is damaged, or names another network. */
export function readHead(payload: Uint8Array): ContextHead {
  if (payload.length < HEAD_BYTES) throw corrupt("the head of the payload is cut off");
  if (payload[0] !== NETWORK_NUMBER) throw unsupported(`context network ${payload[0]} is not known here`);
  const word = payload[1]! | (payload[2]! << 8);
  const step = word & 0x3fff;
  if (step === 0) throw corrupt("the quantisation step is zero");
  return { step, isTrellis: (word & 0x4000) !== 0, isWeighted: (word & 0x8000) !== 0 };
}

export function decodeContext(payload: Uint8Array, rows: number, columns: number, arrays: NetworkArrays): Latents {
  const head = readHead(payload);
  return new Decoder(payload.subarray(HEAD_BYTES), rows, columns, head, arrays).run();
}

class Decoder {
  private readonly ranges: RangeDecoder;
  private readonly network: Network;
  private readonly mixture = new Mixture();
  private readonly latents: Float64Array;
  private readonly inputs: Int32Array;
  private readonly stride: number;
  private readonly states: Uint8Array;
  private readonly variances = new ExactSum();
  private readonly outputs = new Int32Array(5);
  private readonly binWidth: number;
  private readonly radius: number;

  constructor(
    stream: Uint8Array,
    private readonly rows: number,
    private readonly columns: number,
    private readonly head: ContextHead,
    arrays: NetworkArrays,
  ) {
    const { step, isTrellis, isWeighted } = head;
    this.ranges = new RangeDecoder(stream);
    this.network = new Network(arrays, Math.round(256 * Math.log(step / 2457.6)), isWeighted);
    this.latents = new Float64Array(CHANNELS * rows * columns);
    // Around the picture there are zeros, so that windows need no edges.
    this.stride = columns + 2 * REACH;
    this.inputs = new Int32Array((rows + REACH) * this.stride * INPUTS_PER_PLACE);
    this.states = new Uint8Array(CHANNELS * rows);
    this.binWidth = isTrellis ? (2 * step * 227) >> 8 : 2 * step;
    this.radius = Math.min(64, 2 + Math.floor(12288 / step));
  }

  run(): Latents {
    const { rows, columns } = this;
    for (let top = 0; top < rows; top += BAND_ROWS) {
      const band = Math.min(BAND_ROWS, rows - top);
      for (let front = 0; front < columns + FRONT_SLOPE * (band - 1); front++) this.front(top, band, front);
    }
    this.ranges.checkEnd();
    if (this.head.isWeighted) this.unweight();
    const values = Float32Array.from(this.latents); // which rounds them
    const mean = this.variances.value / this.latents.length;
    return { values, rows, columns, noiseVariance: mean * (this.head.isWeighted ? 13 / 16 : 1) };
  }

  /** Decode the places of a front: those of a band that depend on none of each other but within a place. */
  private front(top: number, band: number, front: number): void {
    const first = Math.max(0, Math.ceil((front - this.columns + 1) / FRONT_SLOPE));
    const last = Math.min(band - 1, Math.floor(front / FRONT_SLOPE));
    if (first > last) return;
    const windows: Int32Array[] = [];
    for (let row = first; row <= last; row++) windows.push(this.windowOf(front - FRONT_SLOPE * row, top + row));
    for (let row = first; row <= last; row++)
      this.inputs[this.inputOf(front - FRONT_SLOPE * row, top + row) + CHANNELS] = IN_PICTURE;
    for (let channel = 0; channel < CHANNELS; channel++) {
      for (let row = first; row <= last; row++)
        this.symbol(channel, front - FRONT_SLOPE * row, top + row, windows[row - first]!);
    }
  }

  private symbol(channel: number, x: number, y: number, window: Int32Array): void {
    const { step, isTrellis } = this.head;
    const place = this.inputOf(x, y);
    this.network.run(channel, window, this.inputs.subarray(place, place + CHANNELS), this.outputs);
    this.mixture.set(this.outputs);
    const row = channel * this.rows + y;
    const state = this.states[row]!;
    const odd = isTrellis ? parity(state & 0x0a) : 0;
    const symbol = this.read(odd);
    this.states[row] = ((2 * state) % 64) | (parity(state & 0x21) ^ Math.abs(symbol % 2));
    const position = (2 * symbol + odd) * step;
    this.inputs[place + channel] = Math.max(-127, Math.min(127, Math.floor((position + 128) / 256)));
    const centroid = this.mixture.centroid(position - (this.binWidth >> 1), this.binWidth);
    this.latents[(channel * this.rows + y) * this.columns + x] = centroid.latent;
    this.variances.add(centroid.variance);
  }

  private read(odd: number): number {
    const { mixture, radius } = this;
    const { step } = this.head;
    const size = 2 * radius + 3;
    const lowest = Math.floor((mixture.mean + (1 - odd) * step) / (2 * step)) - radius;
    const startOf = (index: number): number =>
      index === 0
        ? 0
        : index === size
          ? 65536
          : Math.floor((mixture.cdf((2 * (lowest + index - 1) + odd - 1) * step) * (65536 - size)) / 2 ** 24) + index;
    const target = this.ranges.target();
    let [low, high] = [0, size - 1]; // the interval's number is between these
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (startOf(middle) <= target) low = middle;
      else high = middle - 1;
    }
    this.ranges.take(startOf(low), startOf(low + 1));
    if (low === 0) return lowest - 1 - this.ranges.golomb();
    if (low === size - 1) return lowest + low - 1 + this.ranges.golomb();
    return lowest + low - 1;
  }

  private windowOf(x: number, y: number): Int32Array {
    const window = new Int32Array(WINDOW_PLACES * INPUTS_PER_PLACE);
    WINDOW.forEach(([dx, dy], index) => {
      const place = this.inputOf(x + dx, y + dy);
      window.set(this.inputs.subarray(place, place + INPUTS_PER_PLACE), index * INPUTS_PER_PLACE);
    });
    return window;
  }

  private inputOf(x: number, y: number): number {
    return ((y + REACH) * this.stride + x + REACH) * INPUTS_PER_PLACE;
  }

  private unweight(): void {
    const count = this.rows * this.columns;
    const { latents } = this;
    for (let place = 0; place < count; place++) {
      const [first, second, third, fourth] = [0, 1, 2, 3].map((channel) => latents[channel * count + place]!) as [
        number,
        number,
        number,
        number,
      ];
      const along = -4 * first + -2 * second + -2 * third + 5 * fourth;
      WEIGHTED_AXIS.forEach((component, channel) => {
        latents[channel * count + place]! += component * (along * WEIGHTED_FACTOR);
      });
    }
  }
}

function window(): [number, number][] {
  const places: [number, number][] = [];
  for (let dy = -REACH; dy <= 0; dy++) {
    const last = dy < -1 ? REACH : dy === -1 ? 2 : -1;
    for (let dx = -REACH; dx <= last; dx++) places.push([dx, dy]);
  }
  return places;
}

function parity(bits: number): number {
  bits ^= bits >> 4;
  bits ^= bits >> 2;
  return (bits ^ (bits >> 1)) & 1;
}
