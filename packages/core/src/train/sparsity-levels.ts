import { ConfigError } from '../errors.js';

/** How the levels of successive stages are spaced. */
export type LevelSpacing = 'linear' | 'log_linear' | 'exp_linear';

const spacings: Record<LevelSpacing, readonly [(level: number) => number, (level: number) => number]> = {
  linear: [(level) => level, (level) => level],
  log_linear: [Math.exp, Math.log],
  exp_linear: [Math.log, Math.exp],
};

/**
 * The sparsity levels of a sparsifying schedule, one a stage: `linear` evenly spaced; `log_linear` the logarithms of
 * evenly spaced exponentials; `exp_linear` geometric.
 *
 * @param from first level; above zero for `exp_linear`
 * @param to last level
 * @param stages number of levels, at least 1
 * @throws ConfigError naming the argument.
 */
export function sparsifyingLevels(kind: LevelSpacing, from: number, to: number, stages: number): number[] {
  const spacing = Object.hasOwn(spacings, kind) ? spacings[kind] : undefined;
  if (!spacing) throw new ConfigError(`kind is '${kind}'; expected ${Object.keys(spacings).join(', ')}`, 'kind');
  if (!Number.isInteger(stages) || stages < 1) {
    throw new ConfigError(`stages is ${stages}; expected a whole number of at least 1`, 'stages');
  }
  if (kind === 'exp_linear' && !(from > 0 && to > 0)) {
    throw new ConfigError(`exp_linear goes from ${from} to ${to}; both must be above 0`, 'from');
  }
  const [forth, back] = spacing;
  const [start, end] = [forth(from), forth(to)];
  return Array.from({ length: stages }, (_, stage) => {
    if (stage === 0) return from;
    if (stage === stages - 1) return to;
    return back(start + (stage / (stages - 1)) * (end - start));
  });
}
