/** The scaled positions of Llama 3.1 and later, which llama.cpp stores as a factor for each frequency. */
import { toFloat32, type GgufFile } from '@peftjs/gguf';
import { fileError } from '../json.js';

/** What a file says about its network. */
export type DescribedFile = Pick<GgufFile, 'metadata' | 'names' | 'spec' | 'read'>;

/** The tensor of the factors, float32 [head width / 2]. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** What all these models share. */
const LLAMA3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 } as const;

/** The factors are float32. */
const TOLERANCE = 1e-5;

/**
 * Returns `rope_scaling` of config.json; undefined if positions are not scaled.
 * @param theta The base of the frequencies.
 * @throws CheckpointError when the factors are not those of Llama 3.
 */
export async function ropeScalingOf(file: DescribedFile, theta: number, path: string): Promise<object | undefined> {
  if (!file.names.includes(ROPE_FACTORS)) return undefined;
  const given = toFloat32(await file.read(ROPE_FACTORS));
  const factor = Number((given.at(-1) ?? 1).toPrecision(6));
  const expected = llama3Factors(factor, { theta, count: given.length });
  const isLlama3 = given.every((value, index) => {
    const own = expected[index] as number;
    return Math.abs(value - own) <= TOLERANCE * own;
  });
  if (isLlama3) return { rope_type: 'llama3', factor, ...LLAMA3 };
  throw fileError(path, `the factors in '${ROPE_FACTORS}' are not those of Llama 3, the only ones that are supported`);
}

/** The frequencies that are divided. */
interface Frequencies {
  /** Their base. */
  readonly theta: number;
  /** Half of the width of a head. */
  readonly count: number;
}

/** Returns the factors of all frequencies. */
export function llama3Factors(factor: number, { theta, count }: Frequencies): Float32Array {
  return Float32Array.from({ length: count }, (_, index) =>
    llama3Factor(factor, theta ** (index / count) * 2 * Math.PI),
  );
}

/** The divisor of a frequency: 1 for short waves, `factor` for long ones, in between interpolated. */
function llama3Factor(factor: number, wavelength: number): number {
  const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: length } = LLAMA3;
  if (wavelength < length / high) return 1;
  if (wavelength > length / low) return factor;
  const smooth = (length / wavelength - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}
