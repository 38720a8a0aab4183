import { floats, type HostTensor, type HostTensors } from '@peftjs/core/method';

/**
 * Returns ||a - b|| / ||b||, the distance of two float32 computations of one tensor. 0 for equal tensors, infinite for
 * different lengths.
 */
export function relativeDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let difference = 0;
  let size = 0;
  for (let index = 0; index < a.length; index++) {
    const [x, y] = [a[index] as number, b[index] as number];
    difference += (x - y) ** 2;
    size += y ** 2;
  }
  if (difference === 0) return 0;
  return Math.sqrt(difference / (size || Number.MIN_VALUE));
}

/**
 * Returns the tensor in which two sets differ most, by relative distance. The distance is infinite for names that only
 * one set has.
 */
export function farthestTensor(a: HostTensors, b: HostTensors): { name: string; distance: number } {
  let farthest = { name: '', distance: 0 };
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const distance = tensorDistance(a[name], b[name]);
    if (!(distance <= farthest.distance)) farthest = { name, distance };
  }
  return farthest;
}

function tensorDistance(a: HostTensor | undefined, b: HostTensor | undefined): number {
  if (!a || !b || a.shape.join() !== b.shape.join()) return Infinity;
  return relativeDistance(floats(a), floats(b));
}
