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

interface Layer {
  readonly inputs: number;
  readonly units: number;
  /** By channel, input and unit. */
  readonly weights: Int8Array;
  /** By channel and unit, conditions included. */
  readonly bias: Int32Array;
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
  private readonly here: Int8Array;
  private readonly sums = new Int32Array(UNITS);
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
    this.here = this.int8("here", CHANNELS * CHANNELS * UNITS);
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
      add(this.here, (channel * CHANNELS + other) * UNITS, place[other]!, sums);
    }
    hidden(sums, 7, values);
    accumulate(this.inner0, channel, values, sums);
    hidden(sums, 6, values);
    accumulate(this.inner1, channel, values, sums);
    hidden(sums, 6, values);
    accumulate(this.last, channel, values, outputs);
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
    return { inputs, units, weights: this.int8(`${name}.weights`, CHANNELS * inputs * units), bias };
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

/** Inputs that are not zero, gathered for a layer: where the rows of their weights begin, and their values. */
const rowStarts = new Int32Array(WINDOW_INPUTS + TOGETHER);
const rowValues = new Int32Array(WINDOW_INPUTS + TOGETHER);

function accumulate(layer: Layer, channel: number, inputs: Int32Array, sums: Int32Array): void {
  const { units, weights, bias } = layer;
  const first = channel * layer.inputs * units;
  let count = 0;
  for (let input = 0; input < layer.inputs; input++) {
    const value = inputs[input]!;
    if (value === 0) continue;
    rowStarts[count] = first + input * units;
    rowValues[count++] = value;
  }
  rowStarts.fill(first, count, count + TOGETHER);
  rowValues.fill(0, count, count + TOGETHER);
  for (let unit = 0; unit < units; unit++) sums[unit] = bias[channel * units + unit]!;
  for (let index = 0; index < count; index += TOGETHER) addRows(weights, index, units, sums);
}

/** Add the products of {@link TOGETHER} inputs to the sums: they are read and written once for all of these. */
function addRows(weights: Int8Array, index: number, units: number, sums: Int32Array): void {
  const [v0, v1, v2, v3] = [rowValues[index]!, rowValues[index + 1]!, rowValues[index + 2]!, rowValues[index + 3]!];
  const [v4, v5, v6, v7] = [rowValues[index + 4]!, rowValues[index + 5]!, rowValues[index + 6]!, rowValues[index + 7]!];
  let [r0, r1, r2, r3] = [rowStarts[index]!, rowStarts[index + 1]!, rowStarts[index + 2]!, rowStarts[index + 3]!];
  let [r4, r5, r6, r7] = [rowStarts[index + 4]!, rowStarts[index + 5]!, rowStarts[index + 6]!, rowStarts[index + 7]!];
  for (let unit = 0; unit < units; unit++) {
    const low =
      Math.imul(v0, weights[r0++]!) +
      Math.imul(v1, weights[r1++]!) +
      Math.imul(v2, weights[r2++]!) +
      Math.imul(v3, weights[r3++]!);
    const high =
      Math.imul(v4, weights[r4++]!) +
      Math.imul(v5, weights[r5++]!) +
      Math.imul(v6, weights[r6++]!) +
      Math.imul(v7, weights[r7++]!);
    sums[unit] = (sums[unit]! + low + high) | 0;
  }
}

function add(weights: Int8Array, row: number, value: number, sums: Int32Array): void {
  for (let unit = 0; unit < UNITS; unit++) sums[unit] = (sums[unit]! + Math.imul(value, weights[row + unit]!)) | 0;
}

function hidden(sums: Int32Array, bits: number, values: Int32Array): void {
  const half = 1 << (bits - 1);
  for (let unit = 0; unit < UNITS; unit++) {
    const value = (sums[unit]! + half) >> bits;
    values[unit] = value < 0 ? 0 : value > 127 ? 127 : value;
  }
}
