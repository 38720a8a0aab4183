import { TargetModuleError, type Site, type TargetConfig } from '@peftjs/core/method';

/** `targetModules` of a configuration that names none: every module is offered, and the method's own rule chooses. */
const BY_RULE = '.*';

/** The same options; where they name no modules, the method's own rule chooses. */
export function withTargets<C extends TargetConfig>(config: C): C {
  return { ...config, targetModules: config.targetModules ?? BY_RULE };
}

/** Which modules a method acts on when none are named, and the same in words. */
export interface PlacementRule {
  readonly picks: (site: Site) => boolean;
  /** Follows "no module", e.g. `with a bias`. */
  readonly words: string;
}

/**
 * The modules that were named, or those that the rule picks.
 * @throws TargetModuleError when there are none.
 */
export function placed(
  sites: readonly Site[],
  { targetModules }: TargetConfig,
  { picks, words }: PlacementRule,
): readonly Site[] {
  const chosen = targetModules === BY_RULE ? sites.filter(picks) : sites;
  if (chosen.length > 0) return chosen;
  throw new TargetModuleError(`the model has no module ${words}; name the modules in targetModules`, 'targetModules');
}
