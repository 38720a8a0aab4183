import { isHeadOnly, type ResolvedMethod } from '../registry/methods.js';
import type { DataSource } from '../registry/tasks.js';
import type { Study } from '../study/study.js';

/** An adapter's peak learning rate where neither the study nor the method names one. */
const METHOD_RATE = 1e-3;

/**
 * Fills in what a study leaves to its methods: each arm's learning rate, unless the protocol has one for all, and, for
 * the user's own data, the options that a method recommends for short runs. An arm that trains only the head keeps the
 * protocol's rate.
 */
export function withMethodDefaults(
  study: Study,
  { kind }: Pick<DataSource, 'kind'>,
  methods: ReadonlyMap<string, Pick<ResolvedMethod, 'method'>>,
): Study {
  const arms = Object.entries(study.methods).map(([arm, settings]) => {
    const { method } = methods.get(settings.method) ?? {};
    if (!method) return [arm, settings] as const;
    const hasProtocolRate = study.protocol.learningRate !== null || isHeadOnly(method);
    return [
      arm,
      {
        ...settings,
        learningRate: settings.learningRate ?? (hasProtocolRate ? null : (method.defaultLearningRate ?? METHOD_RATE)),
        options: { ...(kind !== 'embedded' && method.shortRunOptions), ...settings.options },
      },
    ] as const;
  });
  return { ...study, methods: Object.fromEntries(arms) };
}
