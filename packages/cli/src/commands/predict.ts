import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Option, type Command } from 'commander';
import { ConfigError, UnsupportedError, warnOnce } from '@peftjs/core/method';
import {
  pipeline,
  type EntityGroup,
  type LabelScore,
  type Pipelines,
  type TextGenerationOptions,
  type TextGenerationPipeline,
} from '@peftjs/pipelines';
import { chatML } from '@peftjs/tasks';
import { engineFromFlags, openExecutor } from '../registry/executors.js';
import { everyMethod } from '../registry/methods.js';
import { loading } from '../registry/loading.js';
import { jsonLines, table, type Answer, type Answered, type AnswerWriter } from './answers.js';
import { choice, count, numberFor, withExample } from './flags.js';
import { PREDICT_TASKS, subjectOf, type PredictTask, type Subject } from './subject.js';
import { checkTextSource, pairedTexts, textBatches, type GivenText } from './texts.js';

/** The flags of `peftjs predict`. */
interface PredictFlags {
  readonly file?: string;
  readonly pairs?: boolean;
  readonly model?: string;
  readonly task?: PredictTask;
  readonly topK?: number;
  readonly threshold?: number;
  readonly chat?: boolean;
  readonly raw?: boolean;
  readonly maxNewTokens?: number;
  readonly json?: boolean;
}

/** `peftjs predict`: prints the predictions of an adapter, or a model, for texts. */
export function addPredictCommand(program: Command): void {
  withExample(program.command('predict'), 'predict my-adapter "The soup was cold."')
    .description('predict with an adapter: labels, entities, vectors or generated text')
    .argument('<adapter>', 'an adapter or a model: a folder, an .onnx file or a hub id (organisation/name)')
    .argument('[text...]', 'texts (default: those in --file, or on stdin); put -- before one that begins with -')
    .option('--file <file>', 'file with one text per line')
    .option('--pairs', 'read two texts together: two arguments, or two texts per line, separated by a tab')
    .option('--model <model>', 'base model, if not the one that the adapter names')
    .addOption(choice('--task <name>', 'task of a model whose config.json does not show it', PREDICT_TASKS))
    .option('--top-k <n>', 'labels per text, best first (default: 1)', count)
    .option(
      '--threshold <score>',
      'print every label with at least this score (default for multi-label adapters: 0.5)',
      numberFor('a number', Number.isFinite),
    )
    .option(
      '--chat',
      'treat each text as a message and answer it, with the chat template of the model (default for adapters trained on conversations)',
    )
    .addOption(new Option('--raw', 'continue each text as it is, without a chat template').conflicts('chat'))
    .option('--max-new-tokens <n>', 'most tokens to generate per text (default: 256)', count)
    .option('--json', 'print one line of JSON per text')
    .action(predict);
}

/** The number of texts that run together. */
const PORTION = 256;

async function predict(source: string, texts: readonly string[], flags: PredictFlags): Promise<void> {
  const given = { texts: flags.pairs ? pairedTexts(texts) : texts, file: flags.file, pairs: flags.pairs };
  checkTextSource(given);
  const subject = await subjectOf(source, flags);
  checkFlags(flags, subject);
  const predictor = await openPredictor(subject.task, ANSWERS[subject.task], subject, flags);
  const written: AnswerWriter = flags.json ? jsonLines : table(process.stdout.columns || Infinity);
  try {
    for await (const portion of textBatches(given, subject.task === 'text-generation' ? 1 : PORTION)) {
      const asked = portion.filter(({ text }) => text !== '');
      if (mayBePairs(subject, flags, asked)) warnOnce('each line holds a tab: use --pairs if it separates two texts');
      const answers = asked.length === 0 ? [] : await predictor.answer(asked);
      const lines = written(portion.map((given) => ({ ...given, ...answers[asked.indexOf(given)] }) as Answered));
      if (!process.stdout.write(lines)) await once(process.stdout, 'drain'); // the reader is slower
    }
  } finally {
    await predictor.dispose();
  }
}

/** Returns whether texts that are read as one each look like pairs. */
function mayBePairs({ task }: Subject, { pairs }: PredictFlags, given: readonly GivenText[]): boolean {
  if (task !== 'text-classification' || pairs || given.length === 0) return false;
  return given.every(({ text }) => text.split('\t').length === 2);
}

/** The flags that do not apply to every task. */
const TASK_FLAGS = {
  pairs: ['--pairs', 'text-classification'],
  topK: ['--top-k', 'text-classification', 'image-classification'],
  threshold: ['--threshold', 'text-classification', 'image-classification'],
  chat: ['--chat', 'text-generation'],
  raw: ['--raw', 'text-generation'],
  maxNewTokens: ['--max-new-tokens', 'text-generation'],
} as const satisfies Partial<Record<keyof PredictFlags, readonly [flag: string, ...tasks: PredictTask[]]>>;

/** @throws ConfigError for a flag of another task. */
function checkFlags(flags: PredictFlags, { source, task }: Subject): void {
  for (const [name, [flag, ...own]] of Object.entries(TASK_FLAGS)) {
    if (flags[name as keyof typeof TASK_FLAGS] === undefined || (own as PredictTask[]).includes(task)) continue;
    throw new ConfigError(`${flag} is for ${own.join(' and ')}; the task of ${source} is ${task}`, name);
  }
}

/** Opens the pipeline of a task. Its `answer` predicts for each text, in order. */
async function openPredictor<T extends PredictTask>(
  task: T,
  answers: (typeof ANSWERS)[T],
  { source, isMultiLabel, isChat }: Subject,
  flags: PredictFlags,
) {
  const engine = { ...engineFromFlags({}), threads: availableParallelism() };
  const model = await pipeline(task, source, {
    methods: await everyMethod(),
    executor: await openExecutor(engine),
    ...loading,
    ...(flags.model !== undefined && { model: flags.model }),
  });
  const { chat = isChat && !flags.raw } = flags;
  return { answer: answers(model, { ...flags, chat, isMultiLabel }), dispose: model.dispose };
}

const plain = (texts: readonly GivenText[]): string[] => texts.map(({ text }) => text);

/** A text without blanks around it, as training reads cells. */
const trimmed = (text: string): string => text.trim();

/** The default threshold for multi-label models: a label counts if it is more likely than not. */
const DEFAULT_THRESHOLD = 0.5;

function labelOptions({ topK, isMultiLabel, threshold: least }: PredictFlags & Pick<Subject, 'isMultiLabel'>) {
  const threshold = least ?? (isMultiLabel && topK === undefined ? DEFAULT_THRESHOLD : undefined);
  return { topK: topK ?? (threshold === undefined ? 1 : null), ...(threshold !== undefined && { threshold }) };
}

/** How the pipeline of each task answers texts. */
const ANSWERS: {
  readonly [T in PredictTask]: (
    model: Pipelines[T],
    flags: PredictFlags & Pick<Subject, 'isMultiLabel'>,
  ) => (texts: readonly GivenText[]) => Promise<Answer[]>;
} = {
  'text-classification': (classify, flags) => {
    const options = labelOptions(flags);
    return async (texts) => {
      const given = texts.map(({ text, textPair }) =>
        textPair === undefined ? trimmed(text) : { text: trimmed(text), textPair: trimmed(textPair) },
      );
      const results: readonly (LabelScore | readonly LabelScore[])[] = await classify(given, options);
      return results.map((labels) => ({ labels: [labels].flat() }));
    };
  },
  'image-classification': (classify, flags) => async (files) =>
    (await classify(plain(files), labelOptions(flags))).map((labels) => ({ labels })),
  'token-classification': (tag) => async (texts) => {
    const found: EntityGroup[][] = await tag(plain(texts), { aggregationStrategy: 'words' });
    return found.map((entities) => ({ entities }));
  },
  'feature-extraction': (embed) => async (texts) =>
    ((await embed(plain(texts).map(trimmed))).tolist() as number[][]).map((embedding) => ({ embedding })),
  'text-generation': (generate, { maxNewTokens, chat = false }) => {
    const options = { returnFullText: false, ...(maxNewTokens !== undefined && { maxNewTokens }) };
    return async (texts) => {
      const answers: Answer[] = [];
      const next = async (text: string): Promise<string> => (await generate(text, options))[0].generated_text;
      for (const { text } of texts)
        answers.push({ generated: await (chat ? answered(generate, text, options) : next(text)) });
      return answers;
    };
  },
};

/**
 * Answers a message in the model's chat template; without one, in ChatML, in which `train` writes conversations for
 * such a model.
 */
async function answered(
  generate: TextGenerationPipeline,
  text: string,
  options: TextGenerationOptions,
): Promise<string> {
  const messages = [{ role: 'user', content: text }];
  const [{ generated_text: turns }] = await generate(messages, options).catch((error: unknown) => {
    if (!(error instanceof UnsupportedError && error.path === 'template')) throw error;
    return generate(messages, { ...options, template: chatML });
  });
  return turns.at(-1)?.content ?? '';
}
