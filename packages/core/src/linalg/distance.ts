import { floats, type HostTensors } from '../tensors.js';

/**
 * Returns ||a - b|| / ||b||, the distance of two float32 computations of one tensor: 0 for equal tensors, infinite for
 * different lengths and where a value is not a number.
 */
export function relativeDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let [difference, size] = [0, 0];
  for (let at = 0; at < b.length; at++) {
    difference += ((a[at] as number) - (b[at] as number)) ** 2;
    size += (b[at] as number) ** 2;
  }
  if (difference === 0) return 0;
  const distance = Math.sqrt(difference / (size || Number.MIN_VALUE));
  return Number.isNaN(distance) ? Infinity : distance;
}

/** Returns the relative distance of each tensor, by name: infinite for one that only one side has, or of another shape. */
export function distancesOf(a: HostTensors, b: HostTensors): Record<string, number> {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries(
    Array.from(names, (name) => {
      const [ours, theirs] = [a[name], b[name]];
      const isAlike = ours && theirs && ours.shape.join() === theirs.shape.join();
      return [name, isAlike ? relativeDistance(floats(ours), floats(theirs)) : Infinity];
    }),
  );
}

/** A tensor's name, and its relative distance from the one of that name in another set. */
export interface TensorDistance {
  readonly name: string;
  readonly distance: number;
}

/** Returns the tensor in which two sets differ most; without a name if they are equal. */
export function farthestTensor(a: HostTensors, b: HostTensors): TensorDistance {
  return Object.entries(distancesOf(a, b)).reduce<TensorDistance>(
    (farthest, [name, distance]) => (distance > farthest.distance ? { name, distance } : farthest),
    { name: '', distance: 0 },
  );
}
