/**
 * Angles of rotary position embeddings (Su et al., 2021): position times theta^(-2 i / size), i = 0 .. size / 2 - 1, where these
 * frequencies may be lowered for texts longer than those of pretraining.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { CheckpointError } from '@peftjs/core/method';
import { field, shown } from '../json.js';
import {
  positiveInteger,
  positiveNumber,
  refuseUnless,
  section,
  setting,
  type ConfigFile,
} from '../transformers/config.js';

/** How the frequencies are made. */
export interface RopeConfig {
  readonly theta: number;
  readonly scaling: RopeScaling;
}

/** As they are, all divided by a factor, or as Llama 3.1 has them: the low ones divided, with a smooth passage. */
type RopeScaling =
  | { readonly kind: 'default' }
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

/** Frequencies of heads of `size` features: [size / 2], float32 as in transformers. */
export function ropeFrequencies({ theta, scaling }: RopeConfig, size: number): Float32Array {
  return Float32Array.from({ length: size / 2 }, (_, index) =>
    scaled(Math.fround(1 / Math.fround(theta ** Math.fround((2 * index) / size))), scaling),
  );
}

function scaled(frequency: number, scaling: RopeScaling): number {
  if (scaling.kind === 'default') return frequency;
  if (scaling.kind === 'linear') return frequency / scaling.factor;
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  const wavesInContext = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
  if (wavesInContext > highFreqFactor) return frequency;
  if (wavesInContext < lowFreqFactor) return frequency / factor;
  const smooth = (wavesInContext - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

/** Cosines and sines of every position's angles, [positions, size / 2] each: computed in the step, in float32 as in transformers. */
export function ropeAngles(frequencies: Float32Array, positions: number): { cos: Tensor; sin: Tensor } {
  const places = tf.expandDims(tf.range(0, positions, 1, 'float32'), 1); // [positions, 1]
  const angles = tf.mul(places, tf.tensor1d(frequencies)); // [positions, size / 2]
  return { cos: tf.cos(angles), sin: tf.sin(angles) };
}

/**
 * The settings of config.json, in today's form (`rope_parameters`) or the earlier one (`rope_theta`, `rope_scaling`).
 * @throws CheckpointError for a kind of scaling that is not computed here, naming it.
 */
export function ropeSettings(config: ConfigFile): RopeConfig {
  const earlier = section(config, 'rope_scaling');
  const later = section(config, 'rope_parameters');
  const rope = field(config.settings, 'rope_scaling') ? earlier : later;
  for (const place of [config, rope]) refuseUnless(place, 'partial_rotary_factor', 1);
  refuseUnless(config, 'rope_interleaved', false);
  const outside = positiveNumber(config, 'rope_theta', 10_000);
  const theta = positiveNumber(rope, 'rope_theta', outside);
  return { theta, scaling: scalingOf(rope) };
}

function scalingOf(rope: ConfigFile): RopeScaling {
  const kind = setting(rope, 'rope_type') ?? setting(rope, 'type') ?? 'default';
  if (kind === 'default') return { kind };
  if (kind === 'linear') return { kind, factor: positiveNumber(rope, 'factor') };
  if (kind === 'llama3') {
    return {
      kind,
      factor: positiveNumber(rope, 'factor'),
      lowFreqFactor: positiveNumber(rope, 'low_freq_factor'),
      highFreqFactor: positiveNumber(rope, 'high_freq_factor'),
      originalMaxPositionEmbeddings: positiveInteger(rope, 'original_max_position_embeddings'),
    };
  }
  throw new CheckpointError(
    `${rope.file}: 'rope_type' must be "default", "linear" or "llama3", got ${shown(kind)}, which is not supported`,
    rope.file,
  );
}
