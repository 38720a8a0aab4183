import { objectLike } from '@peftjs/core/method';
import type { DataSet } from './data-set.js';
import type { EncodedData, Tokenizer } from './encode.js';
import type { CausalData } from './encode-language.js';
import type { LanguageSet } from './language.js';
import type { MetricSet } from './task.js';

/* Schemas of the values that this package's functions take. */

/** A schema for data sets. */
export const aDataSet = objectLike<DataSet>(
  'a data set, e.g. of createDataSet: await it',
  ({ kind, classes, rows }) => typeof kind === 'string' && Array.isArray(classes) && Array.isArray(rows),
);

/** A schema for language sets. */
export const aLanguageSet = objectLike<LanguageSet>(
  'a language set, e.g. of languageSet: await it',
  ({ name, rows }) => typeof name === 'string' && Array.isArray(rows),
);

/** A schema for encoded rows of any kind. */
export const encodedRows = objectLike<EncodedData | CausalData>(
  'encoded rows, e.g. of encodeRows',
  ({ kind, rows }) => typeof kind === 'string' && Array.isArray(rows),
);

/** A schema for tokenizers of texts. */
export const aTokenizer = objectLike<Tokenizer>(
  "a tokenizer, e.g. a model's",
  ({ encode }) => typeof encode === 'function',
);

/** A schema for sets of metrics. */
export const someMetrics = objectLike<MetricSet<never>>(
  'metrics by name with the name of the primary one, e.g. of metricsFor',
  ({ primary, metrics }) => typeof primary === 'string' && Object(metrics) === metrics,
);
