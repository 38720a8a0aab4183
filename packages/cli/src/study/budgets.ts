import type { Model } from '@peftjs/core';
import { ConfigError, type PeftMethod, type TargetConfig } from '@peftjs/core/method';
import { rankUnit } from '@peftjs/core/ranks';
import { adaptedSites, assertWithinBase, baseParameters, selectSites } from '@peftjs/core/model';
import type { Stages } from './stages.js';
import type { Trial, TrialProtocol } from './trials.js';

/** What the sizes of budgets are relative to: the parameters of the base model, and those of one LoRA rank. */
interface Units {
  readonly base: number;
  readonly rankUnit: number;
}

/**
 * A budget as typed: a size in stored parameters, or `auto`, with which training chooses the size, within `margin` of
 * the dense adapter's score; null means one standard error.
 */
export type Budget =
  | { readonly kind: 'size'; readonly count: (units: Units) => number }
  | { readonly kind: 'auto'; readonly margin: number | null };

/** How sizes are typed, and the stored parameters that they mean: a count, a share in percent, or a rank. */
const SIZES: readonly (readonly [pattern: RegExp, count: (value: number, units: Units) => number])[] = [
  [/^(\d+)$/, (value) => value],
  [/^(\d+(?:\.\d+)?)%$/, (value, { base }) => Math.round((value / 100) * base)],
  [/^r=(\d+)$/, (value, { rankUnit: unit }) => value * unit],
];

/** Parses `60000`, `0.8%`, `r=4`, `auto` or `auto:0.01`. @throws ConfigError for anything else. */
export function parseBudget(text: string): Budget {
  const auto = /^auto(?::(\d+(?:\.\d+)?|\.\d+))?$/.exec(text);
  if (auto) return { kind: 'auto', margin: auto[1] === undefined ? null : Number(auto[1]) };
  for (const [pattern, count] of SIZES) {
    const value = Number(pattern.exec(text)?.[1] ?? 0);
    if (value > 0) return { kind: 'size', count: (units) => count(value, units) };
  }
  throw new ConfigError(
    `--budget is '${text}'; expected a number of parameters (60000), a share of the base (0.8%), a rank (r=4), or auto for a method that chooses its size`,
    'budget',
  );
}

/** A method's configuration that meets a trial's budget. */
export interface FittedConfig {
  /** The configuration. */
  readonly config: TargetConfig;
  /**
   * The requested number of parameters, stored or trained as the protocol says; null if the method has no budget or
   * chooses its own.
   */
  readonly requested: number | null;
}

/** What the configuration of a trial depends on. */
type Asked = Pick<Trial, 'budget' | 'settings'> & { readonly protocol: Pick<TrialProtocol, 'matchOn' | 'scaling'> };

/**
 * Solves a method's configuration for the trial's budget, or for the first of its stages, and gives it the protocol's
 * scale.
 * @throws ConfigError if the method cannot reach the budget, or does not support the level of a stage.
 */
export function fitConfig(method: PeftMethod, model: Model, trial: Asked): FittedConfig {
  const { config, requested } = sized(method, model, trial);
  const { scaling } = trial.protocol;
  return { config: scaling == null ? config : (method.scaledTo?.(config, scaling) ?? config), requested };
}

function sized(method: PeftMethod, model: Model, { budget, settings, protocol }: Asked): FittedConfig {
  const config = method.parseConfig(settings.options);
  if (settings.stages) return { config: firstLevel(method, config, settings.stages), requested: null };
  if (budget === null) return { config, requested: null };
  if (!method.fitBudget) throw new ConfigError(`${method.name} does not accept a budget`, 'budget');
  const parsed = parseBudget(budget);
  const sites = adaptedSites(model, method, config).matched;
  if (parsed.kind === 'auto') {
    if (method.sizing) return { config: method.parseConfig({ ...settings.options, budget: 'auto' }), requested: null };
    throw new ConfigError(`${method.name} does not choose its size: give it a budget`, 'budget');
  }
  const { head, defaultTargetModules: defaults } = model;
  const { targetModules = null }: Partial<TargetConfig> = settings.options;
  // The size of a rank is counted on the linear modules that the options select, whatever the method adapts.
  const ranked = selectSites(model.sites, { ...config, targetModules }, { kinds: ['linear'], head, defaults }).matched;
  const base = baseParameters(model);
  const requested = parsed.count({ base, rankUnit: rankUnit(ranked) });
  const fitted = method.fitBudget(sites, requested, config, protocol.matchOn);
  assertWithinBase(requested, base); // after the check of the modules' own limit, which is usually lower
  return { config: fitted, requested };
}

/** Whether a budget leaves the size to the method. */
export function isAuto(budget: string | null): boolean {
  return budget !== null && parseBudget(budget).kind === 'auto';
}

/** The configuration of the first stage. @throws ConfigError if the method does not support the level of some stage. */
function firstLevel(method: PeftMethod, config: TargetConfig, { levels }: Stages): TargetConfig {
  const atSparsity = method.atSparsity?.bind(method);
  if (!atSparsity) throw new ConfigError(`${method.name} has no sparsity levels; leave out its stages`, 'stages');
  const [first = config] = levels.map((level) => atSparsity(config, level));
  return first;
}
