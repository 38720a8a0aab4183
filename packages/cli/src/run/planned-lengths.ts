import { warnOnce } from '@peftjs/core/method';
import type { PretrainedModel } from '@peftjs/models';
import {
  isChatSet,
  isTextSet,
  chatML,
  encodeLanguage,
  encodeRows,
  chooseMaxTokens,
  rowLength,
  type DataSet,
} from '@peftjs/tasks';
import type { LoadedLanguageTask, LoadedTask } from '../registry/tasks.js';
import type { StudyProtocol } from '../study/study.js';
import type { Lengths } from '../study/trials.js';
import { describeLosses, encodeLabelledTask, encodeLanguageTask, splitRows, type SplitRows } from './prepare.js';

/** The most tokens of a row by default: the memory and time of a step grow with them, whatever the model's limit. */
const MAX_BY_ITSELF = 512;
/** Tokens of a row of packed texts, which lose nothing at any length. */
const PACKED = 128;

/** Steps that a small task is trained for: with fewer, the methods that learn slowly end little above chance. */
const MIN_STEPS = 200;
const [MIN_EPOCHS, MAX_EPOCHS] = [3, 20];

type Reader = Pick<PretrainedModel, 'tokenizer' | 'maxTokens'>;

/**
 * Returns the maximal row length of a task and its epochs, for every trial of a run: the protocol's, or else what the
 * training rows need. Warns once about what rows lose at that length, and about classes that only selection rows have.
 * @throws PeftError for rows that cannot be encoded.
 */
export async function plannedLengths(task: LoadedTask, model: Reader, protocol: StudyProtocol): Promise<Lengths> {
  if (task.kind === 'causal-lm') {
    warnOf(describeTemplate(task, model));
    const maxTokens = lengthOf(model, protocol, (most) => languageTokens(task, model, most));
    warnOf(describeLosses(task.name, encodeLanguageTask(task, model, { ...protocol, maxTokens }), model.maxTokens));
    return { maxTokens, epochs: protocol.epochs ?? MIN_EPOCHS };
  }
  const split = await splitRows(task, protocol);
  const maxTokens = lengthOf(model, protocol, (most) => labelledTokens(split, model, most));
  warnOf(describeLosses(task.name, encodeLabelledTask(split, model, { maxTokens }), model.maxTokens));
  warnOf(describeLostClasses(task.name, split));
  return { maxTokens, epochs: protocol.epochs ?? epochsFor(split.train.rows.length, protocol) };
}

function epochsFor(rows: number, { batchSize }: StudyProtocol): number {
  const needed = Math.ceil(MIN_STEPS / Math.ceil(rows / batchSize));
  return Math.min(MAX_EPOCHS, Math.max(MIN_EPOCHS, needed));
}

function lengthOf(model: Reader, { maxTokens }: StudyProtocol, fitting: (most: number) => number): number {
  if (maxTokens !== null) return Math.min(maxTokens, model.maxTokens);
  return fitting(Math.min(MAX_BY_ITSELF, model.maxTokens));
}

function languageTokens({ name, train }: LoadedLanguageTask, { tokenizer }: Reader, most: number): number {
  if (isTextSet(train)) return Math.min(PACKED, most);
  const template = tokenizer.chatTemplate?.render ?? chatML;
  const { rows } = encodeLanguage({ ...train, name: `${name}/train` }, tokenizer, { maxTokens: most, template });
  return chooseMaxTokens(
    rows.map(({ ids }) => ids.length),
    most,
  );
}

function labelledTokens({ train }: SplitRows, { tokenizer }: Reader, most: number): number {
  const { rows } = encodeRows(train, tokenizer, { maxTokens: most });
  return chooseMaxTokens(rows.map(rowLength), most);
}

/** A warning that conversations are written in a format which the model may not know. */
function describeTemplate({ name, train, dev }: LoadedLanguageTask, { tokenizer }: Reader): string | undefined {
  if (tokenizer.chatTemplate || ![train, dev].some(isChatSet)) return undefined;
  return `${name}: the model has no chat template, so conversations are written as ChatML`;
}

/** A warning about classes that only the selection rows have; undefined if there are none. */
function describeLostClasses(task: string, { train, selection }: SplitRows): string | undefined {
  const [learnt, selecting] = [classesIn(train), classesIn(selection)];
  const lost = train.classes.filter((_, label) => !learnt.has(label) && selecting.has(label));
  if (lost.length === 0) return undefined;
  const names = lost.map((name) => JSON.stringify(name)).join(', ');
  return `${task}: all rows of ${names} were set aside for selection, and none are left to train on; add rows`;
}

/** The indices of the classes, labels or tags that occur in some rows. */
function classesIn({ rows }: DataSet): Set<number> {
  return new Set(
    rows.flatMap((row) => {
      if ('label' in row) return [row.label];
      if ('labels' in row) return row.labels;
      return 'tags' in row ? row.tags : [];
    }),
  );
}

function warnOf(line: string | undefined): void {
  if (line !== undefined) warnOnce(line);
}
