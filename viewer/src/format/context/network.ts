/** The network of the codec `context`, in integers: every reader computes the same. */
import { corrupt } from "../errors.js";
import { readNpz } from "./npz.js";

export const CHANNELS = 4;

/** Numbers for a place of the window: the inputs of the four channels, and whether it lies in the picture. */
export const INPUTS_PER_PLACE = 5;
export const WINDOW_PLACES = 38;

const UNITS = 96;
const OUTPUTS = 5;
const WINDOW_INPUTS = WINDOW_PLACES * INPUTS_PER_PLACE;
const CONDITIONS = 3;

/** Inputs whose products are added at a time. */
const TOGETHER = 8;

/**
 * Two sums are in one number, low + high · 2²⁶: sums are below 2²⁴, so that both together are below 2⁵³, and exact. That
 * halves the multiplications, of which a picture of 512×512 pixels takes 600 million.
 */
const HIGH = 2 ** 26;

interface Layer {
  readonly inputs: number;
  readonly pairs: number;
  /** By channel, input and pair of units. */
  readonly weights: Float64Array;
  /** By channel and pair of units, conditions included. */
  readonly bias: Float64Array;
}

/** The network as released; it is the same for all steps. */
export type NetworkArrays = ReturnType<typeof readNpz>;

export function readNetwork(npz: Uint8Array): NetworkArrays {
  return readNpz(npz);
}

/** The network for a step: its conditions are in the biases. */
export class Network {
  private readonly window: Layer;
  private readonly inner0: Layer;
  private readonly inner1: Layer;
  private readonly last: Layer;
  private readonly here: Float64Array;
  private readonly sums = new Float64Array(UNITS / 2);
  private readonly values = new Int32Array(UNITS);

  constructor(
    private readonly arrays: NetworkArrays,
    logarithm: number,
    isWeighted: boolean,
  ) {
    const conditions = [logarithm, (logarithm * logarithm) >> 8, isWeighted ? 256 : 0];
    this.window = this.layer("window", WINDOW_INPUTS, UNITS, conditions);
    this.inner0 = this.layer("inner0", UNITS, UNITS, conditions);
    this.inner1 = this.layer("inner1", UNITS, UNITS, conditions);
    this.last = this.layer("last", UNITS, OUTPUTS, conditions);
    this.here = paired(this.int8("here", CHANNELS * CHANNELS * UNITS), UNITS);
  }

  /**
   * Write the five outputs for a channel of a place.
   *
   * @param channel - That which is to be coded.
   * @param window - The inputs of the places around, as they are listed.
   * @param place - The inputs of the place itself, of which those of the channels before `channel` are known.
   * @param outputs - Takes a, m₁, m₂, s₁ and s₂.
   */
  run(channel: number, window: Int32Array, place: Int32Array, outputs: Int32Array): void {
    const { sums, values } = this;
    accumulate(this.window, channel, window, sums);
    for (let other = 0; other < channel; other++) {
      const row = ((channel * CHANNELS + other) * UNITS) / 2;
      for (let pair = 0; pair < UNITS / 2; pair++) sums[pair]! += place[other]! * this.here[row + pair]!;
    }
    hidden(sums, 7, values);
    accumulate(this.inner0, channel, values, sums);
    hidden(sums, 6, values);
    accumulate(this.inner1, channel, values, sums);
    hidden(sums, 6, values);
    accumulate(this.last, channel, values, sums);
    for (let unit = 0; unit < OUTPUTS; unit++)
      outputs[unit] = unit % 2 ? high(sums[unit >> 1]!) : low(sums[unit >> 1]!);
  }

  private layer(name: string, inputs: number, units: number, conditions: readonly number[]): Layer {
    const bias = this.int32(`${name}.bias`, CHANNELS * units).slice();
    const factors = this.int32(`${name}.conditions`, CHANNELS * units * CONDITIONS);
    bias.forEach((value, unit) => {
      const sum = conditions.reduce(
        (total, condition, index) => total + factors[unit * CONDITIONS + index]! * condition,
        0,
      );
      bias[unit] = value + (sum >> 8);
    });
    const weights = this.int8(`${name}.weights`, CHANNELS * inputs * units);
    return { inputs, pairs: Math.ceil(units / 2), weights: paired(weights, units), bias: paired(bias, units) };
  }

  private int8(name: string, length: number): Int8Array {
    const values = this.arrays.get(name)?.values;
    if (!(values instanceof Int8Array) || values.length !== length) throw corrupt("the context network is damaged");
    return values;
  }

  private int32(name: string, length: number): Int32Array {
    const values = this.arrays.get(name)?.values;
    if (!(values instanceof Int32Array) || values.length !== length) throw corrupt("the context network is damaged");
    return values;
  }
}

/** Return rows of units as rows of pairs of units; where their number is odd, the last has none beside it. */
function paired(values: Int8Array | Int32Array, units: number): Float64Array {
  const pairs = Math.ceil(units / 2);
  return Float64Array.from({ length: (values.length / units) * pairs }, (_, index) => {
    const unit = 2 * (index % pairs);
    const place = Math.floor(index / pairs) * units + unit;
    return values[place]! + (unit + 1 < units ? values[place + 1]! * HIGH : 0);
  });
}

function high(pair: number): number {
  return Math.round(pair / HIGH);
}

function low(pair: number): number {
  return pair - high(pair) * HIGH;
}

/** Inputs that are not zero, gathered for a layer: where the rows of their weights begin, and their values. */
const rowStarts = new Int32Array(WINDOW_INPUTS + TOGETHER);
const rowValues = new Float64Array(WINDOW_INPUTS + TOGETHER);

function accumulate(layer: Layer, channel: number, inputs: Int32Array, sums: Float64Array): void {
  const { pairs, weights, bias } = layer;
  const first = channel * layer.inputs * pairs;
  let count = 0;
  for (let input = 0; input < layer.inputs; input++) {
    const value = inputs[input]!;
    if (value === 0) continue;
    rowStarts[count] = first + input * pairs;
    rowValues[count++] = value;
  }
  rowStarts.fill(first, count, count + TOGETHER);
  rowValues.fill(0, count, count + TOGETHER);
  for (let pair = 0; pair < pairs; pair++) sums[pair] = bias[channel * pairs + pair]!;
  for (let index = 0; index < count; index += TOGETHER) addRows(weights, index, pairs, sums);
}

/** Add the products of {@link TOGETHER} inputs to the sums: they are read and written once for all of these. */
function addRows(weights: Float64Array, index: number, pairs: number, sums: Float64Array): void {
  const [v0, v1, v2, v3] = [rowValues[index]!, rowValues[index + 1]!, rowValues[index + 2]!, rowValues[index + 3]!];
  const [v4, v5, v6, v7] = [rowValues[index + 4]!, rowValues[index + 5]!, rowValues[index + 6]!, rowValues[index + 7]!];
  const [r0, r1, r2, r3] = [rowStarts[index]!, rowStarts[index + 1]!, rowStarts[index + 2]!, rowStarts[index + 3]!];
  const [r4, r5, r6, r7] = [rowStarts[index + 4]!, rowStarts[index + 5]!, rowStarts[index + 6]!, rowStarts[index + 7]!];
  for (let pair = 0; pair < pairs; pair++) {
    sums[pair] =
      sums[pair]! +
      v0 * weights[r0 + pair]! +
      v1 * weights[r1 + pair]! +
      v2 * weights[r2 + pair]! +
      v3 * weights[r3 + pair]! +
      v4 * weights[r4 + pair]! +
      v5 * weights[r5 + pair]! +
      v6 * weights[r6 + pair]! +
      v7 * weights[r7 + pair]!;
  }
}

function hidden(sums: Float64Array, bits: number, values: Int32Array): void {
  const half = 1 << (bits - 1);
  for (let pair = 0; pair < UNITS / 2; pair++) {
    const both = sums[pair]!;
    const upper = Math.round(both / HIGH);
    values[2 * pair] = clamp((both - upper * HIGH + half) >> bits);
    values[2 * pair + 1] = clamp((upper + half) >> bits);
  }
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 127 ? 127 : value;
}
