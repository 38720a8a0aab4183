/**
 * Resizing as Pillow does it, to the bit (src/libImaging/Resample.c): each pixel is a weighted sum of the pixels that
 * its filter covers,
 *
 *   y_i = sum_j k((j - c_i + 1/2) / s) x_j / sum_j k(..)     c_i = (i + 1/2) in / out, s = max(in / out, 1)
 *
 * along rows and along columns, with weights in 22 bits and bytes in between.
 */
import type { DecodedImage } from './decode.js';

interface Filter {
  /** How far it reaches. */
  readonly support: number;
  weight(distance: number): number;
}

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

/** The filters by Pillow's numbers, as `resample` names them. */
export const FILTERS: Readonly<Record<number, Filter>> = {
  1: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) }, // Lanczos
  2: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) }, // bilinear
  3: { support: 2, weight: (x) => cubic(Math.abs(x)) }, // bicubic
};

/** The cubic of Keys (1981) with a = -1/2. */
function cubic(x: number): number {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Resizes an image. */
export function resized(image: DecodedImage, width: number, height: number, filter: Filter): DecodedImage {
  const across = (of: DecodedImage): DecodedImage => (of.width === width ? of : alongRows(of, width, filter));
  const down = (of: DecodedImage): DecodedImage =>
    of.height === height ? of : turned(alongRows(turned(of), height, filter));
  // Bytes are rounded in between, so the order matters. Pillow 13 goes along columns first where these lose far more.
  const isTall = image.height - height > 2 * Math.max(0, image.width - width);
  return isTall ? across(down(image)) : down(across(image));
}

/** The pixels that one pixel is made of. */
interface Reading {
  readonly first: number;
  readonly weights: Int32Array;
}

const BITS = 22;

function readings(from: number, to: number, { support, weight }: Filter): Reading[] {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + support * stretch + 0.5));
    const inverse = 1 / stretch;
    const own = Array.from({ length: end - first }, (_, place) => weight((place + first - centre + 0.5) * inverse));
    const sum = own.reduce((total, share) => total + share, 0);
    const whole = (share: number): number => Math.trunc(share * 2 ** BITS + (share < 0 ? -0.5 : 0.5));
    return { first, weights: Int32Array.from(own, (share) => whole(sum === 0 ? share : share / sum)) };
  });
}

function alongRows({ width, height, data }: DecodedImage, to: number, filter: Filter): DecodedImage {
  const made = new Uint8ClampedArray(3 * to * height);
  for (const [column, { first, weights }] of readings(width, to, filter).entries()) {
    for (let row = 0; row < height; row++) {
      const [source, target] = [3 * (row * width + first), 3 * (row * to + column)];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1);
        for (let place = 0; place < weights.length; place++) {
          sum += (weights[place] as number) * (data[source + 3 * place + channel] as number);
        }
        made[target + channel] = Math.floor(sum / 2 ** BITS);
      }
    }
  }
  return { width: to, height, data: new Uint8Array(made.buffer) };
}

/** Exchanges rows and columns. */
function turned({ width, height, data }: DecodedImage): DecodedImage {
  const made = new Uint8Array(data.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [source, target] = [3 * (row * width + column), 3 * (column * height + row)];
      for (let channel = 0; channel < 3; channel++) made[target + channel] = data[source + channel] as number;
    }
  }
  return { width: height, height: width, data: made };
}
