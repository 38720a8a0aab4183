import { DataError, ShapeError } from '@peftjs/core/method';
import { ratioOfSums, rowMetric, sum, type RowMetric } from './values.js';

/** The tags of several sentences, one list of tags per sentence: `[['B-PER', 'O'], ['O']]`. */
export type TagSequences = readonly (readonly string[])[];

/** The quality of predicted entities; each score is 0 where it is undefined. */
export interface EntityScore {
  /** The share of the predicted entities that are right. */
  readonly precision: number;
  /** The share of the actual entities that were found. */
  readonly recall: number;
  /** The harmonic mean of precision and recall. */
  readonly f1: number;
  /** The number of actual entities. */
  readonly support: number;
}

/** Scores over all entities (micro average). */
export interface EntityScores extends EntityScore {
  /** The scores of each predicted or actual entity type, by name. */
  readonly byType: ReadonlyMap<string, EntityScore>;
}

/** F1 over all entities (micro average); see {@link entityScores}. */
export const entityF1: RowMetric<readonly string[]> = Object.assign(
  (predicted: TagSequences, actual: TagSequences) => entityScores(predicted, actual).f1,
  {
    weighted: (predicted: TagSequences, actual: TagSequences) =>
      ratioOfSums(
        actual.map((tags, row) => {
          const { right, found, wanted } = totalOf([...countEntities([predicted[row] ?? []], [tags]).values()]);
          return [2 * right, found + wanted];
        }),
      ),
  },
);

/** The share of words with the right tag; 0 without words. */
export const tokenAccuracy: RowMetric<readonly string[]> = rowMetric((predicted, actual) =>
  ratioOfSums(
    actual.map((tags, row) => [tags.filter((tag, word) => predicted[row]?.[word] === tag).length, tags.length]),
  ),
);

/**
 * Precision, recall and F1 of entities, as in seqeval's default (conlleval-compatible) mode. An entity is right if its
 * type, start and end are right. Reads IOB1, IOB2, IOE1, IOE2 and IOBES, with the type after the tag (`B-PER`), and
 * repairs malformed sequences as seqeval does: an `I-PER` after `O` or after another type starts an entity.
 * @throws ShapeError unless both have the same sentences with the same lengths.
 * @throws DataError for an empty tag.
 */
export function entityScores(predicted: TagSequences, actual: TagSequences): EntityScores {
  const counts = countEntities(predicted, actual);
  const byType = new Map([...counts].map(([type, count]) => [type, scoreOf(count)]));
  return { ...scoreOf(totalOf([...counts.values()])), byType };
}

/** Entities that are right, those that were predicted, and those that there are. */
interface Count {
  readonly right: number;
  readonly found: number;
  readonly wanted: number;
}

/** Counts entities by type, in the order of the types' names. @throws as `entityScores`. */
function countEntities(predicted: TagSequences, actual: TagSequences): ReadonlyMap<string, Count> {
  checkSameLengths(predicted, actual);
  const [found, wanted] = [entitiesIn(predicted), entitiesIn(actual)];
  const types = [...new Set([...found.keys(), ...wanted.keys()])].sort();
  return new Map(
    types.map((type) => {
      const [ours, theirs] = [found.get(type) ?? new Set<string>(), wanted.get(type) ?? new Set<string>()];
      const right = [...ours].filter((entity) => theirs.has(entity)).length;
      return [type, { right, found: ours.size, wanted: theirs.size }];
    }),
  );
}

/** Adds counts of several types. */
function totalOf(counts: readonly Count[]): Count {
  const total = (of: keyof Count): number => sum(counts.map((count) => count[of]));
  return { right: total('right'), found: total('found'), wanted: total('wanted') };
}

function scoreOf({ right, found, wanted }: Count): EntityScore {
  const precision = found === 0 ? 0 : right / found;
  const recall = wanted === 0 ? 0 : right / wanted;
  const f1 = right === 0 ? 0 : (2 * precision * recall) / (precision + recall);
  return { precision, recall, f1, support: wanted };
}

/**
 * The `start-end` of all entities, by type. Sentences are joined with an `O` in between, so that positions are unique.
 */
function entitiesIn(taggings: TagSequences): Map<string, Set<string>> {
  const entities = new Map<string, Set<string>>();
  let before: Tag = { tag: 'O', type: '' };
  let start = 0;
  const tags = taggings.flatMap((sentence) => [...sentence, 'O']);
  tags.forEach((text, index) => {
    const now = parseTag(text);
    if (ends(before, now)) {
      const ofType = entities.get(before.type) ?? new Set();
      entities.set(before.type, ofType.add(`${start}-${index - 1}`));
    }
    if (starts(before, now)) start = index;
    before = now;
  });
  return entities;
}

/** The tag and the type of `B-PER` are B and PER; without a type, the type is `_`, as in seqeval. */
interface Tag {
  readonly tag: string;
  readonly type: string;
}

function parseTag(text: string): Tag {
  if (text === '') throw new DataError('expected a tag such as O or B-PER, got an empty text');
  const rest = text.slice(1);
  const type = rest.slice(rest.indexOf('-') + 1);
  return { tag: text.charAt(0), type: type === '' ? '_' : type };
}

function ends(before: Tag, now: Tag): boolean {
  if (before.tag === 'E' || before.tag === 'S') return true;
  if ('BI'.includes(before.tag) && 'BSO'.includes(now.tag)) return true;
  return isInside(before) && before.type !== now.type;
}

function starts(before: Tag, now: Tag): boolean {
  if (now.tag === 'B' || now.tag === 'S') return true;
  if ('ESO'.includes(before.tag) && 'EI'.includes(now.tag)) return true;
  return isInside(now) && before.type !== now.type;
}

/** A dot counts as outside, as in conlleval. */
function isInside({ tag }: Tag): boolean {
  return tag !== 'O' && tag !== '.';
}

function checkSameLengths(predicted: TagSequences, actual: TagSequences): void {
  if (predicted.length !== actual.length) {
    throw new ShapeError(`expected the predicted tags of ${actual.length} sentences, got ${predicted.length}`);
  }
  actual.forEach(({ length }, index) => {
    const got = predicted[index]?.length ?? 0;
    if (got === length) return;
    throw new ShapeError(`expected ${length} predicted tags for sentence ${index + 1}, one per word, got ${got}`);
  });
}
