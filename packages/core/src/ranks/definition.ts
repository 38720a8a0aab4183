import * as v from 'valibot';
import { targetEntries, type MethodOptions } from '../adapter/targets.js';
import { dropoutRate, integerFrom, positive } from '../config.js';
import type { TrainPlan } from '../contracts/controller.js';
import type { AdapterLayer, AdapterLayers, ParamSpec, UpdateContext } from '../contracts/layer.js';
import type { AdapterContents, Init, PeftMethod } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import type { LoraFileContents } from '../files/lora-file.js';
import type { Rng } from '../rng.js';
import type { HostTensors, Tensors } from '../tensors.js';
import type { RankPolicy } from './rank-policy.js';

/** Schema entries for the options that methods of low rank share. @param defaults those of the method */
export const rankEntries = (defaults: { readonly r: number; readonly loraAlpha: number }) => ({
  ...targetEntries,
  /** The rank that every module starts with. */
  r: v.optional(integerFrom(1), defaults.r),
  /** The alpha parameter: the change is scaled by `loraAlpha / r`, with the initial r. */
  loraAlpha: v.optional(positive, defaults.loraAlpha),
  /** Initial ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
});

/** The schema entry of dropout. */
export const dropoutEntries = {
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  loraDropout: v.optional(dropoutRate, 0),
};

/** The schema entry of a budget, for methods without other kinds of budget. */
export const budgetEntries = {
  /** The number of parameters stored at the end, met within 2 %. Default null: no budget. */
  budget: v.nullish(positive, null),
};

/** The options that methods of low rank share; some also have dropout and a budget. */
export type RankConfig = MethodOptions<ReturnType<typeof rankEntries>> & {
  readonly loraDropout?: number;
  readonly budget?: number | string | null;
};

/** The configuration of a method with these schema entries, whose comments document the options. */
export type RankOptions<Own extends v.ObjectEntries> = Omit<RankConfig, 'loraDropout' | keyof Own> & {
  readonly [K in keyof Own]: v.InferOutput<Own[K]>;
};

/** What a method of low rank defines; core owns the rest. */
export interface RankMethod<C extends RankConfig>
  extends
    Pick<PeftMethod<C>, 'name'>,
    Partial<Pick<PeftMethod<C>, 'defaultLearningRate' | 'shortRunOptions' | 'atSparsity' | 'sizing'>>,
    Partial<Pick<PeftMethod<C>, 'calibration' | 'fitBudget'>> {
  /** The defaults of the rank and of alpha. */
  readonly defaults: Pick<RankConfig, 'r' | 'loraAlpha'>;
  /** Schema entries of the options that not every rank method has; `loraDropout` and `budget` are among them. */
  readonly options: v.ObjectEntries;
  /** Completes parsed options where one depends on others. @throws ConfigError for options that exclude each other. */
  complete?(parsed: C): C;
  /** Whether the untrained adapter leaves the outputs unchanged. Default true. */
  readonly identityAtInit?: boolean;
  /**
   * What a budget of stored parameters does. `'moves'`: ranks start within it, and a module may get more than it starts
   * with. `'prunes'`: modules start with more ranks than they keep. Default: ranks fill it from the start, and stay.
   */
  readonly budget?: 'moves' | 'prunes';
  /**
   * Whether ranks that are pruned to a budget also go where it counts trained parameters: two thirds of what they store
   * are then kept. Default false: they fill such a budget, and stay.
   */
  readonly prunesTrained?: boolean;
  /**
   * The format of an adapter to be trained further: its `peft_type`, and the suffix of a module's gate. A pruned
   * adapter, and every adapter of a method without gates, is PEFT's LORA.
   */
  readonly file?: {
    readonly peftType: string;
    readonly gate: string;
    /** Returns the configuration to write, where a file needs another one. */
    config?(adapter: AdapterContents<C>): C;
  };
  /**
   * Returns the tensors of `count` ranks of a module: `loraA` [in, count], `loraB` [count, out], and any others
   * [count]. With `gate`, ranks have gates. Also called for ranks that a module gets later, without `init`.
   */
  start(site: Site, count: number, config: C, rng: Rng, init?: Init): HostTensors;
  /** Returns how many ranks each module starts with. Default: as configured. @throws ConfigError */
  ranks?(sites: readonly Site[], config: C, init: Init): readonly number[];
  /** Returns what alpha is divided by in a module that starts with r ranks. Default r. */
  divisor?(r: number): number;
  /** Converts the options in a file of PEFT's LORA, whose alpha is divided by the rank. Default: as they are. */
  fromLora?(lora: Omit<LoraFileContents, 'values'>): Partial<C>;
  /** Returns the tensors that no file holds, for ranks with these others. Default: none. */
  unsaved?(ranks: HostTensors): HostTensors;
  /** How tensors are trained, by name; those left out are state. Default: A and B as usual. */
  train?(config: C): Readonly<Record<string, Partial<ParamSpec>>>;
  /** Returns a term of the loss for each module; undefined where this configuration has none. */
  loss?(config: C, adapter: { readonly ranks: number }): NonNullable<AdapterLayer['loss']> | undefined;
  /** Applies a rule after the optimizer, e.g. a proximal operator, as `AdapterLayer.update`. */
  update?(proposed: Tensors, at: UpdateContext, config: C): Tensors;
  /** Returns what decides between steps which ranks stay; undefined where nothing does. @throws ConfigError */
  policy?(config: C, plan: TrainPlan, layers: AdapterLayers): RankPolicy | undefined;
}
