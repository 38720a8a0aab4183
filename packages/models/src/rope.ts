/**
 * Angles of rotary position embeddings (Su et al., 2021): position times f = theta^(-2 i / n), i = 0 .. n / 2 - 1, for
 * the first n features of a head. For texts longer than those of pretraining, f may be lowered, and the cosines and
 * sines may be multiplied by an attention factor m:
 *
 *   linear     f / factor
 *   llama3     f / factor for low frequencies, with a smooth transition to the high ones
 *   yarn       f / factor for low frequencies, with a linear transition to the high ones; m = 0.1 ln(factor) + 1
 *              (Peng et al., 2023)
 *   longrope   f / short_i, or f / long_i for texts longer than those of pretraining;
 *              m = sqrt(1 + ln(factor) / ln(original length)) (Ding et al., 2024)
 *   dynamic    f unchanged up to `max_position_embeddings` tokens; longer texts are not supported here
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { rotary, type RotaryOptions } from '@peftjs/core/nn';
import type { Context } from './context.js';
import { fileError, shown } from './json.js';
import {
  boolean,
  listOf,
  positiveInteger,
  positiveNumber,
  assertSetting,
  section,
  setting,
  type ConfigFile,
} from './transformers/config.js';

/** The settings of rotary position embeddings. */
export interface RopeConfig {
  /** The base of the frequencies. */
  readonly theta: number;
  /** How frequencies are scaled for long texts. */
  readonly scaling: RopeScaling;
  /** The share of a head's features that are rotated, from the first on. Default 1. */
  readonly partialRotaryFactor?: number;
}

type RopeScaling =
  | { readonly kind: 'default' }
  | { readonly kind: 'linear'; readonly factor: number }
  | {
      readonly kind: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    }
  | {
      readonly kind: 'yarn';
      readonly factor: number;
      readonly attentionFactor: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly originalMaxPositionEmbeddings: number;
      /** Whether the transition starts and ends at whole features. */
      readonly truncate: boolean;
    }
  | {
      readonly kind: 'longrope';
      readonly attentionFactor: number;
      readonly shortFactor: readonly number[];
      readonly longFactor: readonly number[];
      readonly originalMaxPositionEmbeddings: number;
    };

/** Returns the number of rotated features in a head of `size` features. */
function rotaryWidth({ partialRotaryFactor = 1 }: RopeConfig, size: number): number {
  return Math.floor(size * partialRotaryFactor);
}

/** Returns the frequencies of `width` features, [width / 2], in float32 as in transformers. */
export function ropeFrequencies({ theta, scaling }: RopeConfig, width: number, isLong = false): Float32Array {
  const change = changeOf(scaling, { theta, width, isLong });
  return Float32Array.from({ length: width / 2 }, (_, index) =>
    change(Math.fround(1 / Math.fround(theta ** Math.fround((2 * index) / width))), index),
  );
}

/** Scales the frequency of a pair of features. */
type Change = (frequency: number, index: number) => number;

interface Rotation {
  readonly theta: number;
  readonly width: number;
  /** Whether the text is longer than the pretraining texts. */
  readonly isLong: boolean;
}

function changeOf(scaling: RopeScaling, rotation: Rotation): Change {
  switch (scaling.kind) {
    case 'default':
      return (frequency) => frequency;
    case 'linear':
      return (frequency) => frequency / scaling.factor;
    case 'llama3':
      return llama3Change(scaling);
    case 'yarn':
      return yarnChange(scaling, rotation);
    case 'longrope':
      return (frequency, index) =>
        frequency / ((rotation.isLong ? scaling.longFactor : scaling.shortFactor)[index] as number);
  }
}

/** Returns how Llama 3 scales frequencies. */
export function llama3Change(
  scaling: Omit<RopeScaling & { readonly kind: 'llama3' }, 'kind'>,
): (frequency: number) => number {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  return (frequency) => {
    const wavesInContext = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
    if (wavesInContext > highFreqFactor) return frequency;
    if (wavesInContext < lowFreqFactor) return frequency / factor;
    const smooth = (wavesInContext - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
    return ((1 - smooth) * frequency) / factor + smooth * frequency;
  };
}

function yarnChange(scaling: RopeScaling & { readonly kind: 'yarn' }, { theta, width }: Rotation): Change {
  const { factor, betaFast, betaSlow, originalMaxPositionEmbeddings, truncate } = scaling;
  /** Returns the pair of features that makes this many turns over a text of pretraining. */
  const pairOf = (turns: number): number =>
    (width * Math.log(originalMaxPositionEmbeddings / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const high = Math.min(truncate ? Math.ceil(slow) : slow, width - 1);
  const span = low === high ? 0.001 : high - low;
  return (frequency, index) => {
    const lowered = Math.min(Math.max((index - low) / span, 0), 1);
    return (frequency / factor) * lowered + frequency * (1 - lowered);
  };
}

/** The positions of a pass. */
type Reach = Pick<Context, 'reach' | 'length'>;

/**
 * Computes the cosines and sines of the angles of all positions in a pass, [positions, width / 2] each, for heads of
 * `size` features. They are part of the step, in float32 as in transformers.
 */
export function ropeAngles(rope: RopeConfig, size: number, context: Reach): RotaryOptions {
  const width = rotaryWidth(rope, size);
  const positions = tf.expandDims(tf.range(0, context.reach, 1, 'float32'), 1); // [positions, 1]
  const angles = tf.mul(positions, frequencyTensor(rope, width, context)); // [positions, width / 2]
  const [cos, sin] = [tf.cos(angles), tf.sin(angles)];
  const factor = attentionFactorOf(rope);
  return factor === 1 ? { cos, sin } : { cos: tf.mul(cos, factor), sin: tf.mul(sin, factor) };
}

/** Rotates the first features of each head, as many as there are angles for: [B, S, heads * headDim]. */
export function rotatedHeads(headDim: number, states: Tensor, angles: RotaryOptions): Tensor {
  const width = 2 * (angles.cos.shape[1] as number);
  if (width === headDim) return rotary(states, angles);
  const [batch, tokens, features] = states.shape as [number, number, number];
  const count = features / headDim;
  const heads = tf.reshape(states, [batch, tokens, count, headDim]);
  const [first, rest] = tf.split(heads, [width, headDim - width], 3) as [Tensor, Tensor];
  const rotated = rotary(tf.reshape(first, [batch, tokens, count * width]), angles);
  return tf.reshape(tf.concat([tf.reshape(rotated, [batch, tokens, count, width]), rest], 3), states.shape);
}

/** [width / 2] */
function frequencyTensor(rope: RopeConfig, width: number, context: Reach): Tensor {
  const frequencies = tf.tensor1d(ropeFrequencies(rope, width));
  const { scaling } = rope;
  if (scaling.kind !== 'longrope') return frequencies;
  const isLong = tf.cast(tf.greater(context.length(), scaling.originalMaxPositionEmbeddings), 'float32');
  const long = tf.tensor1d(ropeFrequencies(rope, width, true));
  return tf.add(tf.mul(long, isLong), tf.mul(frequencies, tf.sub(1, isLong)));
}

/** Returns m, the factor of cosines and sines. */
export function attentionFactorOf({ scaling }: RopeConfig): number {
  return 'attentionFactor' in scaling ? scaling.attentionFactor : 1;
}

/** Returns all numbers of a rope by name, for the model's identity. */
export function ropeNumbers({ theta, scaling, partialRotaryFactor }: RopeConfig): Record<string, number> {
  const { kind: _, ...settings } = scaling;
  const entries = Object.entries(settings).flatMap(([name, value]: [string, number | boolean | readonly number[]]) =>
    typeof value === 'object'
      ? value.map((each, index) => [`${name}.${index}`, each] as const)
      : [[name, Number(value)] as const],
  );
  return {
    ropeTheta: theta,
    ...Object.fromEntries(entries),
    ...(partialRotaryFactor !== undefined && { partialRotaryFactor }),
  };
}

/** The heads that are rotated. */
export interface RotaryHeads {
  /** The width of a head. */
  readonly headDim: number;
  /** The longest text in tokens. */
  readonly maxPositionEmbeddings: number;
}

/** The kind of scaling. */
type RopeKind = RopeScaling['kind'] | 'dynamic';

/** The defaults and options of one architecture. */
export interface RopeDefaults {
  /** The base if config.json has none. Default 10000. */
  readonly theta?: number;
  /** The name of the base in config.json, outside of the scaling. Default 'rope_theta'. */
  readonly thetaName?: string;
  /** Whether `partial_rotary_factor` may be below 1. Default false. */
  readonly isPartial?: boolean;
  /** The length of the pretraining texts in tokens, if config.json has none outside of the scaling. */
  readonly originalMaxPositionEmbeddings?: number;
  /** The supported kinds by their names in config.json. Default: {@link EVERY_KIND}. */
  readonly kinds?: Readonly<Record<string, RopeKind>>;
}

const EVERY_KIND: Readonly<Record<string, RopeKind>> = Object.fromEntries(
  (['default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope'] as const).map((kind) => [kind, kind]),
);

/** The surroundings of the settings of a rope. */
interface RopeContext {
  /** The whole config.json. */
  readonly config: ConfigFile;
  readonly heads: RotaryHeads;
  readonly defaults: RopeDefaults;
}

/**
 * Reads the settings of config.json, in the current form (`rope_parameters`) or the older one (`rope_theta`,
 * `rope_scaling`).
 * @throws CheckpointError naming the scaling if it is not supported.
 */
export function ropeSettings(config: ConfigFile, heads: RotaryHeads, defaults: RopeDefaults = {}): RopeConfig {
  const [older, current] = [section(config, 'rope_scaling'), section(config, 'rope_parameters')];
  return ropeIn(setting(config, 'rope_scaling') ? older : current, { config, heads, defaults });
}

/** Reads settings from any section of a config.json. */
export function ropeIn(rope: ConfigFile, context: RopeContext): RopeConfig {
  const { config, heads, defaults } = context;
  const { theta = 10_000, thetaName = 'rope_theta', isPartial = false } = defaults;
  assertSetting(config, 'rope_interleaved', false);
  if (!isPartial) for (const source of [config, rope]) assertSetting(source, 'partial_rotary_factor', 1);
  const share = isPartial ? partialFactor(rope, context) : 1;
  const base = positiveNumber(config, thetaName, theta);
  const turned = {
    theta: positiveNumber(rope, 'rope_theta', base),
    ...(share !== 1 && { partialRotaryFactor: share }),
  };
  return { ...turned, scaling: scalingOf(rope, context, Math.floor(heads.headDim * share)) };
}

function partialFactor(rope: ConfigFile, { config, heads: { headDim } }: RopeContext): number {
  const name = 'partial_rotary_factor';
  const factor = positiveNumber(rope, name, positiveNumber(config, name, 1));
  const width = Math.floor(headDim * factor);
  if (factor <= 1 && width > 0 && width % 2 === 0) return factor;
  throw fileError(
    rope.file,
    `'${name}' must be at most 1 and give an even number of ${headDim} features, got ${factor}`,
  );
}

function scalingOf(rope: ConfigFile, context: RopeContext, width: number): RopeScaling {
  const kind = kindOf(rope, context.defaults.kinds ?? EVERY_KIND);
  if (kind === 'default') return { kind };
  if (kind === 'longrope') return longrope(rope, context, width);
  const factor = positiveNumber(rope, 'factor');
  if (kind === 'dynamic') return { kind: 'default' };
  if (kind === 'linear') return { kind, factor };
  const originalMaxPositionEmbeddings = originalLength(rope, context);
  if (kind === 'yarn') return yarn(rope, { factor, originalMaxPositionEmbeddings });
  return {
    kind,
    factor,
    lowFreqFactor: positiveNumber(rope, 'low_freq_factor'),
    highFreqFactor: positiveNumber(rope, 'high_freq_factor'),
    originalMaxPositionEmbeddings,
  };
}

function kindOf(rope: ConfigFile, kinds: Readonly<Record<string, RopeKind>>): RopeKind {
  const [current, older] = [setting(rope, 'rope_type'), setting(rope, 'type')];
  const name = current ?? older ?? 'default';
  const kind = typeof name === 'string' && Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (kind) return kind;
  const known = Object.keys(kinds).map((each) => shown(each));
  throw fileError(
    rope.file,
    `'rope_type' must be one of ${known.join(', ')}, got ${shown(name)}, which is not supported`,
  );
}

/** Returns the length of the pretraining texts. A setting outside of the scaling takes precedence over one within. */
function originalLength(rope: ConfigFile, { config, heads: { maxPositionEmbeddings }, defaults }: RopeContext): number {
  const name = 'original_max_position_embeddings';
  const within = positiveInteger(rope, name, maxPositionEmbeddings);
  return positiveInteger(config, name, defaults.originalMaxPositionEmbeddings ?? within);
}

type Lengths = Readonly<Record<'factor' | 'originalMaxPositionEmbeddings', number>>;

/** Returns m of YaRN unless config.json has its own. */
export function yarnAttentionFactor(factor: number, weight = 1): number {
  return factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
}

function yarn(rope: ConfigFile, { factor, originalMaxPositionEmbeddings }: Lengths): RopeScaling {
  const weighted = (name: string): number => yarnAttentionFactor(factor, positiveNumber(rope, name));
  const scales = ['mscale', 'mscale_all_dim'].map((name) => Boolean(setting(rope, name)));
  const usual = scales.every(Boolean) ? weighted('mscale') / weighted('mscale_all_dim') : yarnAttentionFactor(factor);
  return {
    kind: 'yarn',
    factor,
    attentionFactor: positiveNumber(rope, 'attention_factor', usual),
    betaFast: positiveNumber(rope, 'beta_fast', 32),
    betaSlow: positiveNumber(rope, 'beta_slow', 1),
    originalMaxPositionEmbeddings,
    truncate: boolean(rope, 'truncate', true),
  };
}

function longrope(rope: ConfigFile, context: RopeContext, width: number): RopeScaling {
  const originalMaxPositionEmbeddings = originalLength(rope, context);
  const factor = positiveNumber(rope, 'factor', context.heads.maxPositionEmbeddings / originalMaxPositionEmbeddings);
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositionEmbeddings));
  return {
    kind: 'longrope',
    attentionFactor: positiveNumber(rope, 'attention_factor', usual),
    shortFactor: factors(rope, 'short_factor', width),
    longFactor: factors(rope, 'long_factor', width),
    originalMaxPositionEmbeddings,
  };
}

function factors(rope: ConfigFile, name: string, width: number): readonly number[] {
  const isValue = (value: unknown): value is number => typeof value === 'number' && value > 0 && Number.isFinite(value);
  return listOf(rope, name, width / 2, { isValue, expected: 'numbers above 0' });
}
