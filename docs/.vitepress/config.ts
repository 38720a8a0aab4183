import { defineConfig, type MarkdownOptions } from 'vitepress';
import { anchorOf, repository, siteLink } from './links.js';
import { sections } from './pages.js';
import { vite } from './vite.js';

/** Rewrites the links of each page by `siteLink`, before VitePress looks at them. */
const linkOut: NonNullable<MarkdownOptions['config']> = (md) => {
  md.core.ruler.push('link-out', (state) => {
    const { relativePath } = state.env as { readonly relativePath: string };
    for (const token of state.tokens.flatMap(({ children }) => children ?? [])) {
      const target = token.type === 'link_open' ? token.attrGet('href') : null;
      if (target !== null) token.attrSet('href', siteLink(relativePath, target));
    }
  });
};

const contents = sections().map(({ text, items }) => ({ text, items: [...items] }));

export default defineConfig({
  lang: 'en',
  outDir: 'dist',
  title: 'peftjs',
  description: 'Parameter-efficient fine-tuning for TypeScript: LoRA, AdaLoRA and SoRA on TensorFlow.js',
  head: [['link', { rel: 'icon', type: 'image/svg+xml', href: '/logo.svg' }]],
  vite,
  markdown: { anchor: { slugify: anchorOf }, config: linkOut },
  themeConfig: {
    logo: '/logo.svg',
    nav: contents,
    sidebar: contents,
    outline: { level: [2, 3] },
    search: { provider: 'local' },
    socialLinks: [{ icon: 'github', link: repository }],
    editLink: { pattern: `${repository}/edit/main/docs/:path`, text: 'Edit this page' },
    footer: { message: 'Apache-2.0' },
  },
});
