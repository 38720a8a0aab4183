import { availableParallelism } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { CheckpointError, ConfigError, problemTypeIn, UnsupportedError } from '@peftjs/core/method';
import { isHubId, openFolder, type Folder } from '@peftjs/models';
import {
  pipeline,
  type EntityGroup,
  type LabelScore,
  type Pipelines,
  type TextGenerationOptions,
  type TextGenerationPipeline,
} from '@peftjs/pipelines';
import { chatML, type Message } from '@peftjs/tasks';
import { engineFromFlags, openExecutor } from '../registry/executors.js';
import { everyMethod } from '../registry/methods.js';
import { findPackage, packageFolder } from '../registry/packages.js';
import { jsonLines, table, type Answer, type AnswerWriter } from './answers.js';
import { choice, count } from './flags.js';
import { adapterConfig, isAdapter, taskOf } from './inspect.js';
import { checkTextSource, portions, type GivenText, type TextSource } from './texts.js';

interface PredictFlags {
  readonly file?: string;
  readonly pairs?: boolean;
  readonly model?: string;
  readonly task?: PredictTask;
  readonly topK?: number;
  readonly threshold?: number;
  readonly chat?: boolean;
  readonly maxNewTokens?: number;
  readonly json?: boolean;
}

/** What texts can be given to, one by one. */
type PredictTask = Exclude<keyof Pipelines, 'text-ranking'>;

const TASKS: readonly PredictTask[] = [
  'text-classification',
  'token-classification',
  'feature-extraction',
  'text-generation',
];

/** `peft-bench predict`: what an adapter, or a model, says of texts. */
export function addPredictCommand(program: Command): void {
  program
    .command('predict')
    .description('say what an adapter makes of texts: labels, entities, vectors, or a text that goes on')
    .argument('<adapter>', 'an adapter or a model: a folder, or a hub id, organisation/name')
    .argument('[text...]', 'texts; without them those of --file, or of stdin')
    .option('--file <file>', 'a file with a text in each line')
    .option('--pairs', 'two texts in each line, with a tab between them')
    .option('--model <model>', 'the base model, where it is not what the adapter names')
    .addOption(choice('--task <name>', 'what a model is for that does not say so', TASKS))
    .option('--top-k <n>', 'how many labels of each text, the best first: 1', count)
    .option('--threshold <score>', 'every label with at least this score; of several labels at once: 0.5', score)
    .option('--chat', 'each text is a message, which the model answers in its chat template')
    .option('--max-new-tokens <n>', 'tokens to write after each text, at most: 256', count)
    .option('--json', 'one JSON line on stdout for each text')
    .action(predict);
}

/** Texts that run together. */
const PORTION = 256;

async function predict(source: string, texts: readonly string[], flags: PredictFlags): Promise<void> {
  const given: TextSource = { texts, file: flags.file, pairs: flags.pairs };
  checkTextSource(given);
  const subject = await subjectOf(source, flags.task);
  checkFlags(flags, subject);
  const predictor = await OPENERS[subject.task](subject, flags);
  const written: AnswerWriter = flags.json
    ? jsonLines
    : table(process.stdout.isTTY ? process.stdout.columns : Infinity);
  try {
    for await (const portion of portions(given, subject.task === 'text-generation' ? 1 : PORTION)) {
      const answers = await predictor.answer(portion);
      await write(written(portion.map((text, index) => ({ ...text, ...(answers[index] as Answer) }))));
    }
  } finally {
    await predictor.dispose();
  }
}

/** Waits where nobody reads as fast. */
function write(text: string): Promise<void> {
  return new Promise((resolve) => {
    if (process.stdout.write(text)) resolve();
    else process.stdout.once('drain', resolve);
  });
}

/** What texts are given to. */
interface Subject {
  readonly source: string;
  readonly task: PredictTask;
  /** Whether a text has several labels at once. */
  readonly isMultiLabel: boolean;
}

/**
 * What an adapter, or the head of a model, is for.
 * @throws CheckpointError where there is nothing of that name; ConfigError for a model that does not say it.
 */
async function subjectOf(source: string, wanted: PredictTask | undefined): Promise<Subject> {
  const folder = await openFolder(source);
  const isOne = await isAdapter(folder);
  if (!isOne && !(await folder.storage.exists(folder.path)) && !isHubId(source) && findPackage(source) === undefined) {
    throw new CheckpointError(`${source}: there is no such folder; expected an adapter or a model`, source);
  }
  const config = isOne ? await adapterConfig(folder) : await modelConfig(folder);
  const task = wanted ?? (isOne ? PIPELINES[taskOf(config['task_type'])] : taskOfModel(source, config));
  return { source, task, isMultiLabel: problemTypeIn(config['problem_type']) === 'multi_label_classification' };
}

const PIPELINES = {
  'sequence-classification': 'text-classification',
  'token-classification': 'token-classification',
  'causal-lm': 'text-generation',
  'feature-extraction': 'feature-extraction',
} as const;

/** The settings of a model's folder; none where they cannot be read, which loading the model explains. */
async function modelConfig({ path, storage }: Folder): Promise<Readonly<Record<string, unknown>>> {
  try {
    const bytes = await storage.read(`${path}/config.json`);
    return JSON.parse(new TextDecoder().decode(bytes)) as Readonly<Record<string, unknown>>;
  } catch {
    return {};
  }
}

/** What the classes of transformers are for, by how their names end. */
const CLASSES: readonly (readonly [pattern: RegExp, task: PredictTask])[] = [
  [/ForSequenceClassification$/, 'text-classification'],
  [/ForTokenClassification$/, 'token-classification'],
  [/(?:ForCausalLM|LMHeadModel)$/, 'text-generation'],
  [/Model$/, 'feature-extraction'],
];

function taskOfModel(source: string, { architectures }: Readonly<Record<string, unknown>>): PredictTask {
  const [name]: unknown[] = Array.isArray(architectures) ? (architectures as unknown[]) : [];
  const known = CLASSES.find(([pattern]) => typeof name === 'string' && pattern.test(name));
  if (known) return known[1];
  throw new ConfigError(
    `${source} is no adapter and does not say what it is for; name it by --task: ${TASKS.join(', ')}`,
    'task',
  );
}

/** The flags that only one task has. */
const OF_TASK = {
  pairs: ['--pairs', 'text-classification'],
  topK: ['--top-k', 'text-classification'],
  threshold: ['--threshold', 'text-classification'],
  chat: ['--chat', 'text-generation'],
  maxNewTokens: ['--max-new-tokens', 'text-generation'],
} as const satisfies Partial<Record<keyof PredictFlags, readonly [flag: string, task: PredictTask]>>;

/** @throws ConfigError for a flag of another task. */
function checkFlags(flags: PredictFlags, { source, task }: Subject): void {
  for (const [name, [flag, own]] of Object.entries(OF_TASK)) {
    if (flags[name as keyof typeof OF_TASK] === undefined || own === task) continue;
    throw new ConfigError(`${flag} is for ${own}; ${source} is for ${task}`, name);
  }
}

/** A score on a command line. @throws InvalidArgumentError for what is no number. */
function score(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('Expected a number.');
}

/** A pipeline that is open. */
interface Predictor {
  /** An answer for each text. */
  answer(texts: readonly GivenText[]): Promise<Answer[]>;
  dispose(): Promise<void>;
}

async function opened<T extends PredictTask>(
  task: T,
  { source }: Subject,
  { model }: PredictFlags,
): Promise<Pipelines[T]> {
  const engine = engineFromFlags({ engine: 'compiled', backend: 'auto', dtype: 'fp32' });
  return pipeline(task, source, {
    methods: await everyMethod(),
    executor: await openExecutor({ ...engine, threads: availableParallelism() }),
    resolvePackage: packageFolder,
    ...(model !== undefined && { model }),
  });
}

const plain = (texts: readonly GivenText[]): string[] => texts.map(({ text }) => text);

/** Of several labels at once those count that are likelier than not. */
const LIKELIER_THAN_NOT = 0.5;

const OPENERS: Readonly<Record<PredictTask, (subject: Subject, flags: PredictFlags) => Promise<Predictor>>> = {
  async 'text-classification'(subject, flags) {
    const classify = await opened('text-classification', subject, flags);
    const usual = subject.isMultiLabel && flags.topK === undefined ? LIKELIER_THAN_NOT : undefined;
    const { topK, threshold = usual } = flags;
    const options = {
      topK: topK ?? (threshold === undefined ? 1 : null),
      ...(threshold !== undefined && { threshold }),
    };
    return {
      async answer(texts) {
        const given = texts.map(({ text, textPair }) => (textPair === undefined ? text : { text, textPair }));
        const results: readonly (LabelScore | readonly LabelScore[])[] = await classify(given, options);
        return results.map((labels) => ({ labels: [labels].flat() }));
      },
      dispose: classify.dispose,
    };
  },
  async 'token-classification'(subject, flags) {
    const tag = await opened('token-classification', subject, flags);
    return {
      async answer(texts) {
        const found: EntityGroup[][] = await tag(plain(texts), { aggregationStrategy: 'simple' });
        return found.map((entities) => ({ entities }));
      },
      dispose: tag.dispose,
    };
  },
  async 'feature-extraction'(subject, flags) {
    const embed = await opened('feature-extraction', subject, flags);
    return {
      async answer(texts) {
        const vectors = (await embed(plain(texts))).tolist() as number[][];
        return vectors.map((embedding) => ({ embedding }));
      },
      dispose: embed.dispose,
    };
  },
  async 'text-generation'(subject, flags) {
    const generate = await opened('text-generation', subject, flags);
    const { maxNewTokens, chat = false } = flags;
    const options = { returnFullText: false, ...(maxNewTokens !== undefined && { maxNewTokens }) };
    const generated = async (text: string): Promise<string> => {
      if (chat) return answered(generate, text, options);
      const [{ generated_text: next }] = await generate(text, options);
      return next;
    };
    return {
      async answer(texts) {
        const answers: Answer[] = [];
        for (const { text } of texts) answers.push({ generated: await generated(text) });
        return answers;
      },
      dispose: generate.dispose,
    };
  },
};

/** The answer to a message, in the model's own chat template; where it has none, in the form that `train` writes conversations in then. */
async function answered(
  generate: TextGenerationPipeline,
  text: string,
  options: TextGenerationOptions,
): Promise<string> {
  const messages = [{ role: 'user', content: text }];
  const [{ generated_text: turns }] = await generate(messages, options).catch((error: unknown) => {
    if (!(error instanceof UnsupportedError && error.path === 'template')) throw error;
    return generate(messages, { ...options, template: (given, how) => chatML(given as readonly Message[], how) });
  });
  return turns.at(-1)?.content ?? '';
}
