import { readsImages, type Model, type Task } from '../contracts/model.js';

/** What the front matter of a model card says besides the model. */
interface CardFields {
  /** The library that opens the folder. */
  readonly library: 'peft' | 'transformers' | 'transformers.js';
  /** Tags besides 'peftjs'. Default: none. */
  readonly tags?: readonly string[];
  /** The licence, by its name on the hub. */
  readonly license?: string | undefined;
  /** Metrics of a model of this name on held-out rows of the data. */
  readonly results?:
    | { readonly name: string; readonly data: string; readonly metrics: Readonly<Record<string, number>> }
    | undefined;
}

/** A base model's name as the hub accepts it. */
const HUB_ID = /^(?!.*(?:--|\.\.))\w[\w.-]*\/\w[\w.-]*$/;

/** The hub's names of the tasks, for texts and for images. */
const PIPELINE_TAGS: Readonly<Record<Task, readonly [ofTexts: string, ofImages?: string]>> = {
  'sequence-classification': ['text-classification', 'image-classification'],
  'token-classification': ['token-classification'],
  'causal-lm': ['text-generation'],
  'feature-extraction': ['feature-extraction', 'image-feature-extraction'],
};

/** Returns the last part of a path; empty for the folder itself. */
export function lastPart(path: string): string {
  return path.split(/[\\/]/).findLast((part) => !/^\.*$/.test(part)) ?? '';
}

/** Returns the name of a base model without its place on this machine: a hub id or package, or the folder's name. */
export function shownName(name: string): string {
  if (HUB_ID.test(name) || name.startsWith('@')) return name;
  return lastPart(name.replace(/(?:[\\/]onnx)?[\\/][^\\/]+\.onnx$/, ''));
}

/** Returns a text as code of one line. */
export function code(text: string): string {
  return `\`${text.replace(/[`\p{Cc}]/gu, "'")}\``;
}

/** Returns the hub's name of a model's task. */
export function pipelineTag(model: Pick<Model, 'task' | 'axes'>): string {
  const [ofTexts, ofImages = ofTexts] = PIPELINE_TAGS[model.task ?? 'sequence-classification'];
  return readsImages(model) ? ofImages : ofTexts;
}

/** Returns the front matter of a model card, for the hub, and the empty line after it. No base is named without a name. */
export function cardHeader(
  model: Pick<Model, 'task' | 'axes'> & Partial<Pick<Model, 'name'>>,
  { library, tags = [], license, results }: CardFields,
): string {
  const { name = '' } = model;
  const task = pipelineTag(model);
  return [
    '---',
    ...(HUB_ID.test(name) ? [`base_model: ${JSON.stringify(name)}`] : []),
    `library_name: ${library}`,
    ...(license === undefined ? [] : [`license: ${JSON.stringify(license)}`]),
    `pipeline_tag: ${task}`,
    'tags:',
    ...['peftjs', ...tags].map((tag) => `- ${JSON.stringify(tag)}`),
    ...(results ? [`model-index: ${modelIndex(task, results)}`] : []),
    '---',
    '',
    '',
  ].join('\n');
}

/** The hub's form of results, as JSON, which YAML includes. */
function modelIndex(task: string, { name, data, metrics }: NonNullable<CardFields['results']>): string {
  const dataset = { name: data, type: data.replace(/[^\w.-]+/g, '-') };
  const values = Object.entries(metrics).map(([type, value]) => ({ type, value }));
  return JSON.stringify([{ name, results: [{ task: { type: task }, dataset, metrics: values }] }]);
}
