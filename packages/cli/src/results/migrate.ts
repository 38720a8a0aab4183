import { RESULT_FORMAT } from './schema.js';

/** The format of a file; 1 if it states none. */
export function formatOf(input: unknown): unknown {
  return isRecord(input) ? (input['format'] ?? 1) : undefined;
}

/**
 * Converts a result file of an older format to the current one; returns anything else unchanged, for the schema to
 * check.
 *
 * Format 1 had no `format` and no `versions.numerics`, and called the mean of stored parameters `trainableMean`. Its
 * first files also lacked `arm`, `judgedOn`, `tuning`, `budget.matchedOn` and `parameters.optimizerBytes`.
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

/**
 * Without a requested budget, `trainableMean` was the number trained at the start, so the mean is taken from the
 * training curve.
 */
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
