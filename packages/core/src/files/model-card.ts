import type { Adapter } from '../adapter/peft-model.js';
import { baseParameters, storedParameters } from '../adapter/accounting.js';
import type { Model, Task } from '../contracts/model.js';

/** What the front matter of a model card says to the hub. */
export interface CardFields {
  /** What the model was made from. It is left out where that is no id of the hub, which refuses a card that names another thing. */
  readonly baseModel: string;
  /** The library that opens the folder. */
  readonly library: 'peft' | 'transformers' | 'transformers.js';
  readonly task?: Task | undefined;
  readonly tags?: readonly string[];
}

const HUB_ID = /^(?!.*(?:--|\.\.))\w[\w.-]*\/\w[\w.-]*$/;

/** What the hub calls the tasks. */
const PIPELINE_TAGS: Readonly<Record<Task, string>> = {
  'sequence-classification': 'text-classification',
  'token-classification': 'token-classification',
  'causal-lm': 'text-generation',
  'feature-extraction': 'feature-extraction',
};

/** The front matter of a model card, and the empty line after it. */
export function cardHeader({ baseModel, library, task = 'sequence-classification', tags = [] }: CardFields): string {
  return [
    '---',
    ...(HUB_ID.test(baseModel) ? [`base_model: ${JSON.stringify(baseModel)}`] : []),
    `library_name: ${library}`,
    `pipeline_tag: ${PIPELINE_TAGS[task]}`,
    'tags:',
    ...['peftjs', ...tags].map((tag) => `- ${JSON.stringify(tag)}`),
    '---',
    '',
    '',
  ].join('\n');
}

/** The README.md of an adapter folder, with the front matter that the hub reads. */
export function adapterCard(model: Model, adapter: Adapter, peftType: string): string {
  const { method, layers, saved, values, labels } = adapter;
  const stored = storedParameters(layers, values);
  const whole = Object.keys(saved).map((path) => `\`${path}\``);
  const header = cardHeader({ baseModel: model.name, library: 'peft', task: model.task, tags: [method.name] });
  return `${header}# An adapter for ${model.name}

Made with peftjs by the method \`${method.name}\`, saved as \`${peftType}\`: ${stored.toLocaleString('en-US')} parameters
on ${Object.keys(layers).length} modules (${((100 * stored) / baseParameters(model)).toFixed(3)} % of the base), and the modules ${whole.join(', ') || 'none'} trained whole.
${labels ? classList(labels) : ''}`;
}

/** The names may come from a stranger's file: quoted, each of them is one line and nothing but code. */
function classList(labels: readonly string[]): string {
  const items = labels.map((label, index) => `${index}. \`${JSON.stringify(label).replaceAll('`', "'")}\``);
  return `\n## Classes\n\n${items.join('\n')}\n`;
}
