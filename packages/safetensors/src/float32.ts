import { SafetensorsError } from './errors.js';
import type { StoredTensor } from './tensor.js';

/**
 * The values of a floating-point tensor. Exact for F32, whose own `data` comes back, F16 and BF16; F64 is rounded to nearest.
 * @throws SafetensorsError for integers and booleans, which a float32 may not hold exactly: read their `data`.
 */
export function toFloat32(tensor: StoredTensor): Float32Array {
  switch (tensor.dtype) {
    case 'F32':
      return tensor.data;
    case 'F16':
      return halvesToFloat32(tensor.data);
    case 'BF16':
      return brainFloatsToFloat32(tensor.data);
    case 'F64':
      return new Float32Array(tensor.data);
    default:
      throw new SafetensorsError(
        `expected a tensor of F32, F16, BF16 or F64, got ${tensor.dtype}: use its data as it is`,
      );
  }
}

/** binary16 has 5 exponent bits with bias 15, binary32 8 with bias 127. */
const EXPONENT_SHIFT = 2 ** (127 - 15);

function halvesToFloat32(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length);
  const bits = new Uint32Array(values.buffer);
  halves.forEach((half, i) => {
    const sign = (half & 0x8000) << 16;
    const magnitude = (half & 0x7fff) << 13;
    const notFinite = (half & 0x7c00) === 0x7c00;
    bits[i] = sign | magnitude | (notFinite ? 0x7f800000 : 0);
    // Subnormal halves come out right as well: this product normalises them, exactly.
    if (!notFinite) values[i] = (values[i] as number) * EXPONENT_SHIFT;
  });
  return values;
}

/** bfloat16 is the upper half of a binary32. */
function brainFloatsToFloat32(uppers: Uint16Array): Float32Array {
  const bits = new Uint32Array(uppers.length);
  uppers.forEach((upper, i) => {
    bits[i] = upper << 16;
  });
  return new Float32Array(bits.buffer);
}
