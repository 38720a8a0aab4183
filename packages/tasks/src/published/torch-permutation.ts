/** Words of state of the Mersenne Twister, and the distance of the words that are mixed (Matsumoto and Nishimura, 1998). */
const size = 624;
const distance = 397;

/**
 * What `torch.randperm(length, generator=torch.Generator().manual_seed(seed))` gives on a CPU: published splits are told by
 * nothing but their seed. Each place in turn is exchanged with one drawn from it and those after it.
 */
export function torchPermutation(length: number, seed: number): Int32Array {
  const next = mersenneTwister(seed);
  const order = Int32Array.from({ length }, (_, index) => index);
  for (let place = 0; place < length - 1; place++) {
    const other = place + (next() % (length - place));
    const kept = order[place] as number;
    order[place] = order[other] as number;
    order[other] = kept;
  }
  return order;
}

/** MT19937: unsigned 32-bit numbers from a 32-bit seed. */
function mersenneTwister(seed: number): () => number {
  const state = new Uint32Array(size);
  state[0] = seed;
  for (let index = 1; index < size; index++) {
    const last = state[index - 1] as number;
    state[index] = Math.imul(1812433253, last ^ (last >>> 30)) + index;
  }
  let at = size;
  return () => {
    if (at === size) {
      twist(state);
      at = 0;
    }
    return tempered(state[at++] as number);
  };
}

function twist(state: Uint32Array): void {
  for (let index = 0; index < size; index++) {
    const upper = (state[index] as number) & 0x80000000;
    const mixed = upper | ((state[(index + 1) % size] as number) & 0x7fffffff);
    const odd = mixed & 1 ? 0x9908b0df : 0;
    state[index] = (state[(index + distance) % size] as number) ^ (mixed >>> 1) ^ odd;
  }
}

function tempered(word: number): number {
  let bits = word;
  bits ^= bits >>> 11;
  bits ^= (bits << 7) & 0x9d2c5680;
  bits ^= (bits << 15) & 0xefc60000;
  return (bits ^ (bits >>> 18)) >>> 0;
}
