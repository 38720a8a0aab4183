import type { Adapter } from '../adapter/peft-model.js';
import { baseParameters, storedParameters } from '../adapter/accounting.js';
import { readsImages, type Model, type Task } from '../contracts/model.js';

/** What the front matter of a model card says besides the model. */
interface CardFields {
  /** The library that opens the folder. */
  readonly library: 'peft' | 'transformers' | 'transformers.js';
  /** Tags besides 'peftjs'. Default: none. */
  readonly tags?: readonly string[];
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

/** Returns the front matter of a model card, for the hub, and the empty line after it. No base is named without a name. */
export function cardHeader(
  model: Pick<Model, 'task' | 'axes'> & Partial<Pick<Model, 'name'>>,
  { library, tags = [] }: CardFields,
): string {
  const { name = '', task = 'sequence-classification' } = model;
  const [ofTexts, ofImages = ofTexts] = PIPELINE_TAGS[task];
  return [
    '---',
    ...(HUB_ID.test(name) ? [`base_model: ${JSON.stringify(name)}`] : []),
    `library_name: ${library}`,
    `pipeline_tag: ${readsImages(model) ? ofImages : ofTexts}`,
    'tags:',
    ...['peftjs', ...tags].map((tag) => `- ${JSON.stringify(tag)}`),
    '---',
    '',
    '',
  ].join('\n');
}

/** Returns the README.md of an adapter folder, with front matter for the hub. */
export function adapterCard(model: Model, adapter: Adapter, peftType: string): string {
  const { method, layers, saved, values, labels } = adapter;
  const { name, isMerged = false, ...nameless } = model;
  const stored = storedParameters(layers, values);
  const whole = Object.keys(saved).map((path) => `\`${path}\``);
  const header = cardHeader(isMerged ? nameless : model, { library: 'peft', tags: [method.name] });
  return `${header}# An adapter for ${isMerged ? 'a merged copy of ' : ''}${name}

Made with peftjs by the method \`${method.name}\`, saved as \`${peftType}\`: ${stored.toLocaleString('en-US')} parameters
on ${Object.keys(layers).length} modules (${((100 * stored) / baseParameters(model)).toFixed(3)} % of the base), and the modules ${whole.join(', ') || 'none'} trained in full.
${labels ? classList(labels) : ''}`;
}

/** Lists the classes. The names may come from an untrusted file: quoting makes each of them one line of code. */
function classList(labels: readonly string[]): string {
  const items = labels.map((label, index) => `${index}. \`${JSON.stringify(label).replaceAll('`', "'")}\``);
  return `\n## Classes\n\n${items.join('\n')}\n`;
}
