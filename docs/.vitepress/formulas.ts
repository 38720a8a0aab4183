import { katex } from '@mdit/plugin-katex';
import type { MarkdownRenderer } from 'vitepress';

/**
 * Typesets `$...$` in a line and `$$...$$` in a block, which GitHub shows too. Vue takes the result as it is.
 * @throws SyntaxError where a formula has a mistake: the site is not built.
 */
export function typesetFormulas(md: MarkdownRenderer): void {
  // The plugin has its types of markdown-it from another package than VitePress.
  katex(md as never, {
    throwOnError: true,
    transformer: (html) => {
      if (html.includes('katex-error')) throw new SyntaxError(`a formula cannot be read: ${html}`);
      return html.replace(/^<\w+/, '$& v-pre');
    },
  });
}
