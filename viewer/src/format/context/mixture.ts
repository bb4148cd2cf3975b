/** Mixtures of two logistic distributions, in integers: what the network predicts of a latent. */

const WEIGHTS = table(-128, 128, (index) => 2 ** 16 / (1 + Math.exp(-index / 16)));
const LOGISTIC = table(-3072, 3072, (index) => 2 ** 24 / (1 + Math.exp(-index / 256)));
const INVERSE_SCALES = table(-80, 32, (index) => 2 ** 15 * Math.exp(-index / 16));
const MASSES = 8;

function table(first: number, last: number, entry: (index: number) => number): Int32Array {
  return Int32Array.from({ length: last - first + 1 }, (_, place) => Math.round(entry(first + place)));
}

function clamp(value: number, low: number, high: number): number {
  return value < low ? low : value > high ? high : value;
}

/** What a latent is reconstructed as, and the variance that is left. */
export interface Centroid {
  readonly latent: number;
  readonly variance: number;
}

export class Mixture {
  private readonly masses = new Float64Array(MASSES);
  private weight = 0;
  private mean1 = 0;
  private mean2 = 0;
  private inverse1 = 0;
  private inverse2 = 0;

  /** Take the five outputs of the network. */
  set(outputs: Int32Array): void {
    this.weight = WEIGHTS[clamp((outputs[0]! + 32) >> 6, -128, 128) + 128]!;
    this.mean1 = 8 * outputs[1]!;
    this.mean2 = 8 * outputs[2]!;
    this.inverse1 = INVERSE_SCALES[clamp((outputs[3]! + 32) >> 6, -80, 32) + 80]!;
    this.inverse2 = INVERSE_SCALES[clamp((outputs[4]! + 32) >> 6, -80, 32) + 80]!;
  }

  /** The mean, in 1/8192 of a latent. */
  get mean(): number {
    return this.mean2 + Math.floor((this.weight * (this.mean1 - this.mean2)) / 65536);
  }

  /** Return the probability that a latent lies below a position, in units of 2⁻²⁴. */
  cdf(position: number): number {
    const first = logistic((position - this.mean1) * this.inverse1);
    const second = logistic((position - this.mean2) * this.inverse2);
    return second + Math.floor((this.weight * (first - second)) / 65536);
  }

  /** Return the mean of the distribution in a bin, and its variance. */
  centroid(lower: number, width: number): Centroid {
    const { masses } = this;
    let before = this.cdf(lower);
    let total = 0;
    for (let part = 0; part < MASSES; part++) {
      const after = this.cdf(lower + Math.floor((width * (part + 1)) / MASSES));
      masses[part] = after - before;
      total += after - before;
      before = after;
    }
    if (total === 0) {
      masses.fill(1);
      total = MASSES;
    }
    let [first, second] = [0, 0];
    for (let part = 0; part < MASSES; part++) {
      const middle = 2 * part + 1;
      first += masses[part]! * middle;
      second += masses[part]! * middle * middle;
    }
    const mean = first / total;
    const unit = (width * 2 ** -13) / 16;
    return { latent: lower * 2 ** -13 + mean * unit, variance: (second / total - mean * mean + 1 / 3) * (unit * unit) };
  }
}

/** A product of more than 2⁵³ is not exact, and far beyond the table in any case. */
function logistic(product: number): number {
  return LOGISTIC[clamp(Math.floor(product / 2 ** 20), -3072, 3072) + 3072]!;
}
