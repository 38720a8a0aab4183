import { TargetModuleError, type Site, type TargetConfig } from '@peftjs/core/method';
import { EVERY_MODULE } from '@peftjs/core/model';

/** Sets `targetModules` to all modules, of which the method's rule picks some, if the configuration sets none. */
export function withTargets<C extends TargetConfig>(config: C): C {
  return { ...config, targetModules: config.targetModules ?? EVERY_MODULE };
}

/** A method's rule for the modules to adapt when none are named. */
export interface PlacementRule {
  /** Whether the method adapts this module. */
  readonly picks: (site: Site) => boolean;
  /** The rule in words that follow "no module", such as `with a bias`. */
  readonly words: string;
}

/**
 * Returns the named modules, or those that the rule picks.
 * @throws TargetModuleError when there are none.
 */
export function placed(
  sites: readonly Site[],
  { targetModules }: TargetConfig,
  { picks, words }: PlacementRule,
): readonly Site[] {
  const chosen = targetModules === EVERY_MODULE ? sites.filter(picks) : sites;
  if (chosen.length > 0) return chosen;
  throw new TargetModuleError(`the model has no module ${words}; name the modules in targetModules`, 'targetModules');
}
