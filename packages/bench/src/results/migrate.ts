/** The layout of the result files that this version writes. */
export const RESULT_FORMAT = 2;

/** The layout of a file; those from before there was a number are 1. */
export function formatOf(input: unknown): unknown {
  return isRecord(input) ? (input['format'] ?? 1) : undefined;
}

/**
 * A result file of an older layout in today's; anything else as it is, for the schema to judge.
 *
 * Format 1 had no `format` and no `versions.numerics`, and called the mean of the stored parameters `trainableMean`. Its first files had
 * neither `arm`, `judgedOn`, `tuning`, `budget.matchedOn` nor `parameters.optimizerBytes`.
 */
export function migrated(input: unknown): unknown {
  if (!isRecord(input) || formatOf(input) !== 1) return input;
  const { parameters, ...rest } = input;
  return {
    arm: input['method'],
    judgedOn: 'dev',
    tuning: null,
    ...rest,
    format: RESULT_FORMAT,
    budget: withDefaults({ matchedOn: 'stored' }, input['budget']),
    versions: withDefaults({ numerics: 0 }, input['versions']),
    ...(parameters !== undefined && { parameters: migratedParameters(parameters, input) }),
  };
}

/** Where nothing was requested, `trainableMean` was what is trained at the start: the mean is that of the training curve then. */
function migratedParameters(parameters: unknown, { budget, history }: Readonly<Record<string, unknown>>): unknown {
  if (!isRecord(parameters)) return parameters;
  const { trainableMean, ...rest } = parameters;
  const isMean = isRecord(budget) && budget['requested'] !== null;
  const storedMean = isMean ? trainableMean : (meanStored(history) ?? trainableMean);
  const optimizerBytes = 2 * 4 * Number(rest['trainableAtStart']);
  return { optimizerBytes, ...rest, storedMean };
}

function meanStored(history: unknown): number | undefined {
  if (!Array.isArray(history) || history.length === 0) return undefined;
  const stored = history.map((row: unknown) => (isRecord(row) ? Number(row['stored']) : NaN));
  return stored.reduce((sum, value) => sum + value, 0) / stored.length;
}

function withDefaults(defaults: Readonly<Record<string, unknown>>, record: unknown): unknown {
  return isRecord(record) ? { ...defaults, ...record } : record;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
