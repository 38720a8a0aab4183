/**
 * Seeded random numbers. A generator is passed, never global; `fork` derives an independent stream from a label,
 * so that what one module draws does not depend on the modules before it.
 */
export interface Rng {
  /** Uniform in [0, 1), 32 bits. */
  uniform(): number;
  /** Standard normal, by Box and Muller. */
  normal(): number;
  /** Uniform integer in [0, bound). */
  integer(bound: number): number;
  /** A seeded permutation of 0 .. length - 1, by Fisher and Yates. */
  permutation(length: number): Int32Array;
  /** An independent stream named by `label`; this one does not advance. */
  fork(label: string): Rng;
}

/** A generator (mulberry32) for an integer seed. */
export function createRng(seed: number): Rng {
  return streamOf(mix(seed >>> 0, 0x9e3779b9));
}

function streamOf(origin: number): Rng {
  let state = origin;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
  const integer = (bound: number): number => Math.floor(uniform() * bound);
  return {
    uniform,
    integer,
    normal: () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
    permutation(length) {
      const order = Int32Array.from({ length }, (_, index) => index);
      for (let last = length - 1; last > 0; last--) {
        const other = integer(last + 1);
        const kept = order[last] as number;
        order[last] = order[other] as number;
        order[other] = kept;
      }
      return order;
    },
    fork: (label) => streamOf(hash(label, origin)),
  };
}

/** FNV-1a over the label's code units, started from the parent's origin. */
function hash(label: string, origin: number): number {
  let value = mix(origin, 0x811c9dc5);
  for (let index = 0; index < label.length; index++) {
    value = Math.imul(value ^ label.charCodeAt(index), 0x01000193);
  }
  return mix(value, label.length);
}

/** Spreads two words over 32 bits (the finaliser of MurmurHash3). */
function mix(a: number, b: number): number {
  let value = (a ^ Math.imul(b, 0x85ebca6b)) | 0;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) | 0;
}
