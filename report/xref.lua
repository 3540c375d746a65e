-- Cross references for HTML and PDF. Figures, tables and sections are numbered in the order of the text, and an empty
-- link is filled with the name of what it points to: [](#fig:curves) becomes "Figure 3". An unknown label is an error.
-- Typst numbers captions itself, in the same order; in HTML the number is put in front of the caption here.
-- A division of class `callout` becomes a call of the function `callout` of the PDF's template.

local names = { fig = "Figure", tab = "Table", sec = "Section" }
local counts = { fig = 0, tab = 0, sec = 0 }
local labels = {}

local function register(id)
  local kind = id:match("^(%a+):")
  if not names[kind] then return nil end
  if labels[id] then error("xref.lua: the label '" .. id .. "' is used twice") end
  counts[kind] = counts[kind] + 1
  labels[id] = names[kind] .. "\u{a0}" .. counts[kind]
  return labels[id]
end

local function number_caption(element)
  local title = register(element.identifier)
  local first = element.caption.long[1]
  if title and first and FORMAT:match("html") then
    first.content:insert(1, pandoc.Strong(title .. "."))
    first.content:insert(2, pandoc.Space())
  end
  return element
end

local function number_section(header)
  if header.level == 1 and not header.classes:includes("unnumbered") then
    counts.sec = counts.sec + 1
    labels[header.identifier] = names.sec .. "\u{a0}" .. counts.sec
  end
end

local function fill_link(link)
  if #link.content > 0 or link.target:sub(1, 1) ~= "#" then return nil end
  local label = labels[link.target:sub(2)]
  if not label then error("xref.lua: nothing has the label '" .. link.target .. "'") end
  link.content = { pandoc.Str(label) }
  return link
end

local function callout(div)
  if div.classes:includes("callout") and FORMAT == "typst" then
    return { pandoc.RawBlock("typst", "#callout["), div, pandoc.RawBlock("typst", "]") }
  end
end

return {
  { Figure = number_caption, Table = number_caption, Header = number_section },
  { Link = fill_link, Div = callout },
}
