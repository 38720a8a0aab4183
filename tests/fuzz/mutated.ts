import { createRng, type Rng } from '@peftjs/core/method';

/** A file, and the faults that matter most in its format. */
export interface Original {
  readonly bytes: Uint8Array;
  /** The most faults at once. */
  readonly faults: number;
  /** Draws a place among the bytes. */
  place(rng: Rng, length: number): number;
  /** Writes something at a place that is often mistaken. */
  spoil(copy: Uint8Array<ArrayBuffer>, at: number, rng: Rng): void;
}

/** Returns the file with random faults: bits, what `spoil` writes, lost, repeated and missing bytes. */
export function mutated(seed: number, { bytes: whole, faults, place, spoil }: Original): Uint8Array {
  const rng = createRng(seed);
  let bytes = whole;
  for (let fault = rng.integer(faults); fault >= 0; fault--) {
    const at = place(rng, bytes.length);
    const copy = bytes.slice();
    const kind = rng.integer(5);
    if (kind === 0) copy[at] = (copy[at] ?? 0) ^ (1 << rng.integer(8));
    if (kind === 1) spoil(copy, at, rng);
    if (kind === 2) copy.copyWithin(at, at + rng.integer(20));
    if (kind === 3) copy.copyWithin(at + rng.integer(20), at);
    bytes = kind === 4 && rng.uniform() < 0.3 ? copy.subarray(0, at) : copy;
  }
  return bytes;
}
