/** The scaled positions of a GGUF file: linear, YaRN, or the factors that llama.cpp stores for each frequency. */
import { toFloat32, type GgufFile, type MetadataValue } from '@peftjs/gguf';
import { field, fileError, shown } from '../json.js';
import { llama3Change, yarnAttentionFactor } from '../rope.js';

/** What a file says about its network. */
export type DescribedFile = Pick<GgufFile, 'metadata' | 'names' | 'spec' | 'read'>;

/** The factors of Llama 3.1 and later, float32 [rotated width / 2]. */
export const LLAMA3_FACTORS = 'rope_freqs.weight';
/** The factors of Phi-3 for texts up to the length of those of pretraining, and for longer ones. */
const SHORT_FACTORS = 'rope_factors_short.weight';
const LONG_FACTORS = 'rope_factors_long.weight';

/** The tensors that are settings rather than weights. */
export const ROPE_FACTORS: readonly string[] = [LLAMA3_FACTORS, SHORT_FACTORS, LONG_FACTORS];

/** What all models with the scaling of Llama 3 share. */
const LLAMA3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 } as const;

/** The relative tolerance of factors, which a file holds in float32. */
const TOLERANCE = 1e-5;

/** What scaled positions depend on. */
interface RopeSource {
  /** The base of the frequencies. */
  readonly theta: number;
  /** Returns a setting of the file. One that is never read is refused later. */
  readonly read: (key: string) => unknown;
  readonly path: string;
}

/**
 * Returns `rope_scaling` of config.json; undefined if positions are not scaled.
 * @throws CheckpointError when the factors are not those of Llama 3, and for a scaling that is not supported.
 */
export async function ropeScalingOf(file: DescribedFile, source: RopeSource): Promise<object | undefined> {
  const { read, path } = source;
  const type = read('rope.scaling.type') ?? 'none';
  if (type === 'linear') return { rope_type: 'linear', factor: read('rope.scaling.factor') };
  if (file.names.includes(LLAMA3_FACTORS)) return llama3(file, source);
  if ([SHORT_FACTORS, LONG_FACTORS].some((name) => file.names.includes(name))) return longrope(file, source);
  if (type === 'none') return undefined;
  if (type === 'yarn') return yarn(source);
  throw fileError(path, `'rope.scaling.type' ${shown(type)} is not supported; known ones are none, linear and yarn`);
}

/** llama.cpp multiplies the usual attention factor of YaRN by that of the file. */
function yarn({ read }: RopeSource): object {
  const [factor, attention] = [read('rope.scaling.factor'), read('rope.scaling.attn_factor')];
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: read('rope.scaling.original_context_length'),
    attention_factor: attention === undefined ? undefined : Number(attention) * yarnAttentionFactor(Number(factor)),
  };
}

/** Returns the settings of a file for `rope_scaling` of config.json, if it is linear or of YaRN. */
export function scalingSettings(rope: unknown): Record<string, MetadataValue> {
  const type = field(rope, 'rope_type') ?? field(rope, 'type');
  if (type !== 'linear' && type !== 'yarn') return {};
  const factor = Number(field(rope, 'factor'));
  const length = field(rope, 'original_max_position_embeddings') ?? undefined;
  const attention = Number(field(rope, 'attention_factor') ?? yarnAttentionFactor(factor));
  return {
    'rope.scaling.type': { type: 'string', value: type },
    'rope.scaling.factor': { type: 'float32', value: factor },
    ...(type === 'yarn' && {
      'rope.scaling.attn_factor': { type: 'float32', value: attention / yarnAttentionFactor(factor) },
      ...(length !== undefined && {
        'rope.scaling.original_context_length': { type: 'uint32', value: Number(length) },
      }),
    }),
  };
}

async function longrope(file: DescribedFile, { read, path }: RopeSource): Promise<object> {
  return {
    rope_type: 'longrope',
    short_factor: [...(await factorsIn(file, SHORT_FACTORS, path))],
    long_factor: [...(await factorsIn(file, LONG_FACTORS, path))],
    attention_factor: read('rope.scaling.attn_factor'),
  };
}

/** The maximum number of factors: there is one for every two features of a head. */
const MAX_FACTORS = 4096;

async function factorsIn(file: DescribedFile, name: string, path: string): Promise<Float32Array> {
  const { shape } = file.spec(name);
  if (shape.length === 1 && (shape[0] as number) <= MAX_FACTORS) return toFloat32(await file.read(name));
  throw fileError(path, `tensor '${name}' must be a list of at most ${MAX_FACTORS} factors, got [${shape.join(', ')}]`);
}

async function llama3(file: DescribedFile, { theta, path }: RopeSource): Promise<object> {
  const given = await factorsIn(file, LLAMA3_FACTORS, path);
  const factor = Number((given.at(-1) ?? 1).toPrecision(6));
  const expected = llama3Factors(factor, { theta, count: given.length });
  const isLlama3 = given.every((value, index) => {
    const own = expected[index] as number;
    return Math.abs(value - own) <= TOLERANCE * own;
  });
  if (isLlama3) return { rope_type: 'llama3', factor, ...LLAMA3 };
  throw fileError(
    path,
    `the factors in '${LLAMA3_FACTORS}' are not those of Llama 3, the only ones that are supported`,
  );
}

/** The frequencies that are divided. */
interface Frequencies {
  /** Their base. */
  readonly theta: number;
  /** Half of the width of a head. */
  readonly count: number;
}

/** Returns the divisors of all frequencies. */
export function llama3Factors(factor: number, { theta, count }: Frequencies): Float32Array {
  const change = llama3Change({
    factor,
    lowFreqFactor: LLAMA3.low_freq_factor,
    highFreqFactor: LLAMA3.high_freq_factor,
    originalMaxPositionEmbeddings: LLAMA3.original_max_position_embeddings,
  });
  return Float32Array.from({ length: count }, (_, index) => {
    const frequency = theta ** (-index / count);
    return frequency / change(frequency);
  });
}
