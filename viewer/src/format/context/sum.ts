/** Sums of floating-point numbers that are exact and rounded once (Shewchuk 1997, "Adaptive precision arithmetic"). */
export class ExactSum {
  private partials: number[] = [];

  add(value: number): void {
    let count = 0;
    for (const partial of this.partials) {
      const [larger, smaller] = Math.abs(value) < Math.abs(partial) ? [partial, value] : [value, partial];
      const high = larger + smaller;
      const low = smaller - (high - larger);
      if (low !== 0) this.partials[count++] = low;
      value = high;
    }
    this.partials.length = count;
    this.partials.push(value);
  }

  /** The sum, rounded to nearest, ties to even. */
  get value(): number {
    const { partials } = this;
    let index = partials.length - 1;
    if (index < 0) return 0;
    let high = partials[index]!;
    let low = 0;
    while (index > 0) {
      const before = high;
      const next = partials[--index]!;
      high = before + next;
      low = next - (high - before);
      if (low !== 0) break;
    }
    // Half of a unit was rounded to even, but what is below says which side is right.
    if (index > 0 && low !== 0 && Math.sign(low) === Math.sign(partials[index - 1]!)) {
      const doubled = low * 2;
      const rounded = high + doubled;
      if (doubled === rounded - high) high = rounded;
    }
    return high;
  }
}
