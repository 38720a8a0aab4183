import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';

/**
 * Seeded random numbers. Generators are passed as arguments, never global. `fork` derives an independent stream from a
 * label, so that a module's draws do not depend on the modules before it.
 */
export interface Rng {
  /** Draws a uniform number in [0, 1), 32 bits. */
  uniform(): number;
  /** Draws a standard normal number (Box and Muller). */
  normal(): number;
  /** Draws a uniform integer in [0, bound). */
  integer(bound: number): number;
  /** Draws a permutation of 0 .. length - 1 (Fisher and Yates). */
  permutation(length: number): Int32Array;
  /** Returns an independent stream named by `label`. This stream does not advance. */
  fork(label: string): Rng;
}

/**
 * Creates a generator from an integer seed: xoroshiro128+, whose 128 bits of state keep any number of streams separate.
 */
export function createRng(seed: number): Rng {
  return streamOf(hash('', [seed | 0, Math.floor(seed / 2 ** 32) | 0, ...digitsOfPi]));
}

/** The first bits of pi's fraction. They prevent a state of all zeros, which would never change. */
const digitsOfPi = [0x243f6a88, 0x85a308d3] as const;

/** Four words of 32 bits. */
type Words = readonly [number, number, number, number];

function streamOf(origin: Words): Rng {
  const generator = xoroshiro128plusFromState(origin);
  const uniform = (): number => (generator.next() >>> 0) / 2 ** 32;
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

/** MurmurHash3's constants (x86, 128 bits) for each of its four words: two factors, two rotations, a summand. */
const lanes = [
  [0x239b961b, 0xab0e9789, 15, 19, 0x561ccd1b],
  [0xab0e9789, 0x38b34ae5, 16, 17, 0x0bcaa747],
  [0x38b34ae5, 0xa1e38b93, 17, 15, 0x96cd1c35],
  [0xa1e38b93, 0x239b961b, 18, 13, 0x32ac3b17],
] as const;

/** Returns MurmurHash3 of a label, with one code unit per word of a block, starting from the parent's origin. */
function hash(label: string, origin: Words): Words {
  const words = Int32Array.from(origin);
  for (let at = 0; at < label.length; at += lanes.length) {
    lanes.forEach(([first, second, turn, turnAll, add], lane) => {
      const unit = at + lane < label.length ? label.charCodeAt(at + lane) : 0;
      const mixed = (words[lane] as number) ^ Math.imul(rotated(Math.imul(unit, first), turn), second);
      words[lane] = Math.imul(rotated(mixed, turnAll) + (words[(lane + 1) % lanes.length] as number), 5) + add;
    });
  }
  const [a, b, c, d] = together(together(words.map((word) => word ^ label.length)).map(spread));
  return [a, b, c, d] as Words;
}

/** Adds all other words to the first one, then that sum to each of the others. */
function together(words: Int32Array): Int32Array {
  const sum = words.reduce((total, word) => (total + word) | 0, 0);
  return words.map((word, lane) => (lane === 0 ? sum : word + sum));
}

/** Spreads every bit of a word over all others. */
function spread(word: number): number {
  let bits = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}

function rotated(word: number, turn: number): number {
  return (word << turn) | (word >>> (32 - turn));
}
